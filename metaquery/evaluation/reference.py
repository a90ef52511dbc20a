"""What results on a dataset are measured against: best and worst of its table, its default config, its costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from metaquery.errors import InvalidInput
from metaquery.evaluation.measures.regret import Floats, normalised_regret
from metaquery.evaluation.protocols import Normaliser
from metaquery.space import Distances
from metaquery.types import Curve

if TYPE_CHECKING:
    from metaquery.benchmarks.base import Benchmark

SPLITS = ("validation", "test")

NORMALISERS: Mapping[Normaliser, str] = {
    "all_epochs": (
        "(loss - best) / (worst - best), with best and worst over all epochs of all configs in the dataset's table at "
        "this fold and trial seed, separately for validation and test; 1 until a study has its first incumbent"
    ),
    "last_epochs": (
        "(loss - best) / (worst - best), with best and worst over the last values of all configs in the dataset's "
        "table at this fold and trial seed, separately for validation and test, so that an earlier epoch may be below "
        "0 or above 1; 1 until a study has its first incumbent"
    ),
}


@dataclass(frozen=True, slots=True)
class Reference:
    """Losses of a table by split, and costs in seconds.

    `best` and `worst` are what regret is 0 and 1 at. `default` is the loss after full training of the config that the
    default of the search space is, or that is nearest to it (NaN where it failed), `default_id` and `distance` say
    which one. `longest` is the cost of the most expensive trial.
    """

    best: Mapping[str, float]
    worst: Mapping[str, float]
    default: Mapping[str, float]
    default_id: str
    distance: float
    longest: float

    def regret(self, split: str, losses: Floats) -> Floats:
        """Normalised regret, shape of `losses`; an undefined loss has that of the worst one."""
        worst = self.worst[split]
        return normalised_regret(np.where(np.isnan(losses), worst, losses), self.best[split], worst)

    def to_json(self, from_loss: Any) -> dict[str, Any]:
        """For the provenance, values in the metric's own direction."""
        return {
            split: {
                "best": from_loss(self.best[split]),
                "worst": from_loss(self.worst[split]),
                "default": None if math.isnan(self.default[split]) else from_loss(self.default[split]),
            }
            for split in self.best
        } | {"default_config": self.default_id, "default_distance": self.distance, "longest_seconds": self.longest}


def references(benches: Sequence[Benchmark], normaliser: Normaliser) -> dict[str, Reference]:
    """The reference of each table by dataset: on validation alone where none of them has test values.

    Raises InvalidInput for a table without values to normalise by.
    """
    splits = SPLITS if any(_values(bench, "test", "all_epochs").size for bench in benches) else SPLITS[:1]
    return {bench.dataset: _reference(bench, splits, normaliser) for bench in benches}


def _reference(bench: Benchmark, splits: Sequence[str], normaliser: Normaliser) -> Reference:
    found = {split: _values(bench, split, normaliser) for split in splits}
    for split, values in found.items():
        if not len(values):
            raise InvalidInput(
                f"{bench.dataset} has no {split} {bench.metric.name} at fold {bench.fold} to normalise by: "
                "choose another metric, fold or dataset"
            )
    configs = bench.configs or ()
    distances = Distances(bench.space, configs)(bench.space.default())
    row = int(distances.argmin())
    curve = bench.curve(configs[row])
    last = curve.stands(bench.epochs)
    return Reference(
        best={split: float(values.min()) for split, values in found.items()},
        worst={split: float(values.max()) for split, values in found.items()},
        default={split: math.nan if last is None else float(losses_of(curve, split)[last]) for split in splits},
        default_id=configs[row].config_id,
        distance=float(distances[row]),
        longest=max(float(bench.curve(config).seconds.sum()) for config in configs),
    )


def _values(bench: Benchmark, split: str, normaliser: Normaliser) -> Floats:
    losses = [losses_of(bench.curve(config), split) for config in bench.configs or ()]
    if normaliser == "last_epochs":
        losses = [values[-1:] for values in losses]
    values = np.concatenate([np.empty(0), *losses])
    finite: Floats = values[np.isfinite(values)]
    return finite


def losses_of(curve: Curve, split: str) -> Floats:
    """The losses of `curve` on `split`, shape (epochs run,)."""
    return curve.test if split == "test" else curve.value
