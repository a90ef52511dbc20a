"""One unit of work, as any process does it: load the data, run the trials, store the shard."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from corpus_builder.datasets import Card, prepare, roles
from corpus_builder.execute.rundir import RunDirectory
from corpus_builder.plan import Unit
from corpus_builder.train.records import Part, TrialData, TrialResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
    from corpus_builder.train.device import resolve_device
    from corpus_builder.train.trial import run_trial

    first = unit.trials[0].spec
    data = load_study_data(run.plan.study, first.dataset, first.fold, place.data_root)
    device = resolve_device(place.device)
    results = []
    for planned in unit.trials:
        results.append(run_trial(planned.spec, data, device, place.weights_root))
        if progress is not None:
            progress(results[-1])
    run.write_shard(unit, results, versions())
    return results


def load_study_data(study: Study, dataset: str, fold: int, data_root: Path | None) -> TrialData:
    """The three parts of one of a study's datasets, at its size and with its caps."""
    card = study.card(dataset)
    return _load_data(card, data_root, study.size(card), fold, tuple(sorted(study.caps.items())))


@lru_cache(maxsize=4)
def prepared(card: Card, data_root: Path | None, size: tuple[int, ...]) -> PreparedDataset:
    """The prepared dataset, kept in memory between the units of one process."""
    return prepare(card, data_root, size)


@lru_cache(maxsize=4)
def _load_data(
    card: Card, data_root: Path | None, size: tuple[int, ...], fold: int, caps: tuple[tuple[str, int | None], ...]
) -> TrialData:
    """The three parts of a dataset and fold, kept in memory between the units of one process."""
    data = prepared(card, data_root, size)
    role = roles(data, fold, dict(caps))
    train, val, test = (Part(data.images[role == r], data.labels[role == r]) for r in ("train", "val", "test"))
    return TrialData(train, val, test, n_classes=len(data.class_names))


@cache
def versions() -> Mapping[str, str]:
    """Versions of what decides a trial's numbers."""
    packages = ("medcurves", "torch", "monai", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
