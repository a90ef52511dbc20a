"""One unit of work, as any process does it: load the data, run the trials, store the shard."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from corpus_builder.backbones import ClassicalSpec, member_spec
from corpus_builder.backbones.timm_models import PREFIX as TIMM
from corpus_builder.datasets import Card, prepare_cached, roles
from corpus_builder.execute.engine import Engine, fused_groups, run_group
from corpus_builder.execute.rundir import RunDirectory
from corpus_builder.plan import Unit
from corpus_builder.train.records import Part, TrialData, TrialResult, TrialSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from corpus_builder.datasets import PreparedDataset
    from corpus_builder.execute.leases import Lease
    from corpus_builder.study import Study


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run finds what it needs: datasets, weights, and the device it trains on."""

    data_root: Path | None
    weights_root: Path | None
    device: str = "cpu"
    engine: Engine = "auto"
    calibration: Path | None = None

    def absolute(self) -> Place:
        """The same place, for a process with another working directory."""
        paths = ("data_root", "weights_root", "calibration")
        found = {name: path.absolute() for name in paths if (path := getattr(self, name)) is not None}
        return replace(self, **found)


def run_unit(
    run: RunDirectory, unit: Unit, place: Place, lease: Lease, ended: Callable[[TrialSpec, TrialResult], None]
) -> None:
    """Run the trials of `unit` that are not stored yet and make its shard; `ended` is called after each is stored.

    Raises LeaseLost, and stores nothing more, when another process has taken `lease` over.
    """
    first = unit.trials[0].spec
    data = load_study_data(run.plan.study, first.dataset, first.fold, place.data_root)
    stored = run.read_trials(unit, ["status"])
    for spec, result in run_trials([t.spec for t in unit.trials if t.spec.trial_id not in stored], data, place):
        lease.check()
        run.write_trial(unit, spec, result, versions(str(spec.config["backbone"])))
        ended(spec, result)
    lease.check()
    run.finish(unit)


def run_trials(specs: Sequence[TrialSpec], data: TrialData, place: Place) -> Iterator[tuple[TrialSpec, TrialResult]]:
    """Run `specs`, all of one dataset and fold: fused where `place` says so, one after the other else."""
    networks = [spec for spec in specs if not is_classical(spec)]
    together = set()
    for group, width in fused_groups(networks, data, place.engine, place.calibration):
        assert place.calibration is not None
        together |= {spec.trial_id for spec in group}
        results = run_group(group, width, data, place.device, place.weights_root, place.calibration)
        yield from zip(group, results, strict=True)
    for spec in specs:
        if spec.trial_id not in together:
            yield spec, run_any_trial(spec, data, place)


def run_any_trial(spec: TrialSpec, data: TrialData, place: Place) -> TrialResult:
    """Run one trial, of a network or of a classical member; whatever happens becomes the result's status."""
    member = member_spec(str(spec.config["backbone"]))
    if isinstance(member, ClassicalSpec):
        from corpus_builder.radiomics.trial import run_classical_trial

        return run_classical_trial(spec, data, member)
    from corpus_builder.train.device import resolve_device
    from corpus_builder.train.trial import run_trial

    return run_trial(spec, data, resolve_device(place.device), place.weights_root)


def is_classical(spec: TrialSpec) -> bool:
    """Whether `spec` trains no network."""
    return isinstance(member_spec(str(spec.config["backbone"])), ClassicalSpec)


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
    return TrialData(
        train,
        val,
        test,
        n_classes=len(data.class_names),
        legal_flips=card.augmentation.flips,
        bias_field=card.augmentation.bias_field,
    )


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
