"""One unit of work, as any process does it: load the data, run the trials, store the shard."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from corpus_builder.backbones import ClassicalSpec, member_spec
from corpus_builder.backbones.timm_models import PREFIX as TIMM
from corpus_builder.datasets import Card, prepare_cached, roles
from corpus_builder.execute.rundir import RunDirectory
from corpus_builder.plan import Unit
from corpus_builder.train.records import Part, TrialData, TrialResult, TrialSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from corpus_builder.datasets import PreparedDataset
    from corpus_builder.study import Study


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run finds what it needs: datasets, weights, and the device it trains on."""

    data_root: Path | None
    weights_root: Path | None
    device: str = "cpu"


def run_unit(
    run: RunDirectory, unit: Unit, place: Place, progress: Callable[[TrialResult], None] | None = None
) -> list[TrialResult]:
    """Run every trial of `unit` and store its shard; `progress` is called after each trial."""
    first = unit.trials[0].spec
    data = load_study_data(run.plan.study, first.dataset, first.fold, place.data_root)
    results = []
    for planned in unit.trials:
        results.append(run_any_trial(planned.spec, data, place))
        if progress is not None:
            progress(results[-1])
    run.write_shard(unit, results, versions(str(first.config["backbone"])))
    return results


def run_any_trial(spec: TrialSpec, data: TrialData, place: Place) -> TrialResult:
    """Run one trial, of a network or of a classical member; whatever happens becomes the result's status."""
    member = member_spec(str(spec.config["backbone"]))
    if isinstance(member, ClassicalSpec):
        from corpus_builder.radiomics.trial import run_classical_trial

        return run_classical_trial(spec, data, member)
    from corpus_builder.train.device import resolve_device
    from corpus_builder.train.trial import run_trial

    return run_trial(spec, data, resolve_device(place.device), place.weights_root)


def load_study_data(study: Study, dataset: str, fold: int, data_root: Path | None) -> TrialData:
    """The three parts of one of a study's datasets, at its size and with its caps."""
    card = study.card(dataset)
    return _load_data(card, data_root, study.size(card), fold, tuple(sorted(study.caps.items())))


@lru_cache(maxsize=4)
def prepared(card: Card, data_root: Path | None, size: tuple[int, ...]) -> PreparedDataset:
    """The prepared dataset, kept in memory between the units of one process."""
    return prepare_cached(card, data_root, size)


@lru_cache(maxsize=4)
def _load_data(
    card: Card, data_root: Path | None, size: tuple[int, ...], fold: int, caps: tuple[tuple[str, int | None], ...]
) -> TrialData:
    """The three parts of a dataset and fold, kept in memory between the units of one process."""
    data = prepared(card, data_root, size)
    role = roles(data, fold, dict(caps))
    train, val, test = (_part(data, role == r) for r in ("train", "val", "test"))
    return TrialData(train, val, test, n_classes=len(data.class_names))


def _part(data: PreparedDataset, chosen: NDArray[np.bool_]) -> Part:
    masks = None if data.masks is None else data.masks[chosen]
    spacing = None if data.spacing is None else data.spacing[chosen]
    return Part(data.images[chosen], data.labels[chosen], masks, spacing)


@cache
def versions(backbone: str) -> Mapping[str, str]:
    """Versions of what decides the numbers of a trial of `backbone`."""
    if isinstance(member_spec(backbone), ClassicalSpec):
        of_kind = ["scipy", "scikit-image", "scikit-learn", "PyWavelets"]
    else:
        of_kind = ["torch", "timm" if backbone.startswith(TIMM) else "monai"]
    packages = ("medcurves", "numpy", *of_kind)
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
