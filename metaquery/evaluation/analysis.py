"""From the tidy results of an evaluation to its curves, its leaderboard and its verdict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from metaquery.evaluation.measures import Floats, average_rank, bootstrap_interval, log_grid, step_at
from metaquery.metrics import metric

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ("validation", "test")
MARKS = (0.1, 0.25, 1.0)  # shares of the budget that the summary reports
AXES = {"seconds": "clock_seconds", "epochs": "epochs", "trials": "evaluations"}  # budget -> column that spends it
BEFORE_FIRST = 1.0  # regret of a study that has no incumbent yet: that of the worst value


@dataclass(frozen=True, slots=True)
class Band:
    """A mean with the ends of its 95 % interval, NaN where there is none; three numbers or three arrays."""

    mean: Any
    low: Any
    high: Any


@dataclass(frozen=True)
class Analysis:
    """Results and provenance of an evaluation as arrays (optimizers, datasets, seeds, times) and what follows."""

    results: pa.Table
    provenance: Mapping[str, Any]

    @cached_property
    def optimizers(self) -> list[str]:
        """The optimizers, in the order in which they were given."""
        return [item["label"] for item in self.provenance["optimizers"]]

    @cached_property
    def datasets(self) -> list[str]:
        """The test datasets."""
        return [item["dataset"] for item in self.provenance["datasets"]]

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds, shared by all optimizers."""
        return list(self.provenance["seeds"])

    @property
    def splits(self) -> tuple[str, ...]:
        """Validation and test, or validation alone where the corpus has no test values."""
        return tuple(self.provenance.get("splits", SPLITS))

    @property
    def judged(self) -> str:
        """The split that optimizers are judged by: test wherever there is one."""
        return self.splits[-1]

    @property
    def axis(self) -> str:
        """What the budget limits, and the curves run over: seconds, epochs or trials; the first that is given."""
        return next(name for name in AXES if self.provenance["budget"][name] is not None)

    @property
    def limit(self) -> float:
        """The budget on that axis."""
        return float(self.provenance["budget"][self.axis])

    @cached_property
    def grid(self) -> Floats:
        """Times from the first incumbent (at least a ten thousandth of the budget) to the budget, shape (times,)."""
        first = min((float(times[0]) for times, _ in self._studies.values()), default=self.limit)
        return log_grid(min(max(first, self.limit * 1e-4), self.limit * MARKS[0]), self.limit)

    def regret(self, split: str, times: Floats) -> Floats:
        """Normalised regret on `split` at `times`, shape (optimizers, datasets, seeds, times)."""
        shape = (len(self.optimizers), len(self.datasets), len(self.seeds), len(times))
        result = np.full(shape, BEFORE_FIRST)
        for place, (at, columns) in self._studies.items():
            result[place] = step_at(at, columns[f"{split}_regret"], times, BEFORE_FIRST)
        return result

    def final(self, split: str) -> Floats:
        """The metric of the last incumbent on `split`, shape (optimizers, datasets, seeds).

        A study without an incumbent counts as the worst value of its dataset's table.
        """
        worst = np.array([item[split]["worst"] for item in self.provenance["datasets"]])
        result = np.empty((len(self.optimizers), len(self.datasets), len(self.seeds)))
        result[:] = worst[None, :, None]
        for place, (_, columns) in self._studies.items():
            result[place] = columns[split][-1]
        return result

    def band(self, values: Floats) -> Band:
        """Mean over datasets and seeds of `values`, shape (datasets, seeds, ...), every dataset counting the same.

        The interval is over datasets, or over seeds where there is one dataset only.
        """
        units = values.mean(axis=1) if len(self.datasets) > 1 else values[0]
        low, high = bootstrap_interval(units)
        return Band(units.mean(axis=0), low, high)

    @property
    def units(self) -> tuple[int, str]:
        """How many of what the intervals are over."""
        return (len(self.datasets), "datasets") if len(self.datasets) > 1 else (len(self.seeds), "seeds")

    def curves(self, split: str) -> list[Band]:
        """Mean regret over the grid, one Band of arrays (times,) per optimizer."""
        return [self.band(values) for values in self.regret(split, self.grid)]

    def ranks(self, split: str) -> Floats:
        """Average rank over the grid, shape (optimizers, times)."""
        return average_rank(self.regret(split, self.grid))

    @cached_property
    def summary(self) -> list[dict[str, Any]]:
        """The leaderboard: one row of named numbers per optimizer, the lowest final regret first, by `judged`."""
        marks = np.array(MARKS) * self.limit
        regret = {split: self.regret(split, marks) for split in self.splits}
        rank = {split: average_rank(regret[split])[:, -1] for split in self.splits}
        rows = []
        for i, label in enumerate(self.optimizers):
            row: dict[str, Any] = {"optimizer": label}
            for split in self.splits:
                band = self.band(regret[split][i])
                for j, mark in enumerate(MARKS):
                    key = regret_key(split, mark)
                    row |= {key: band.mean[j], f"{key}_low": band.low[j], f"{key}_high": band.high[j]}
            for split in self.splits:
                row[f"final_{split}"] = float(self.final(split)[i].mean())
            for split in self.splits:
                row[f"rank_{split}"] = float(rank[split][i])
            studies = self.studies(optimizer=label)
            for name in ("evaluations", "epochs", "clock_seconds"):
                row[name] = float(np.mean([study[name] for study in studies]))
            row["stops"] = counted(Counter(study["stop"] for study in studies))
            rows.append(row)
        return sorted(rows, key=lambda row: [row[regret_key(split, 1)] for split in reversed(self.splits)])

    def studies(self, **where: Any) -> list[Mapping[str, Any]]:
        """The studies whose fields equal `where`."""
        return [s for s in self.provenance["studies"] if all(s[key] == value for key, value in where.items())]

    def statuses(self, **where: Any) -> Counter[str]:
        """How the evaluations of those studies ended."""
        total: Counter[str] = Counter()
        for study in self.studies(**where):
            total.update(study["statuses"])
        return total

    def from_loss(self, loss: float) -> float:
        """A loss in the metric's own direction."""
        return metric(self.provenance["benchmark"]["metric"]).from_loss(loss)

    @cached_property
    def _studies(self) -> dict[tuple[int, int, int], tuple[Floats, dict[str, Floats]]]:
        """Where in the arrays each study stands: the times of its incumbents, and their values by column."""
        names = [f"{split}{kind}" for split in self.splits for kind in ("", "_regret")]
        columns = {name: self.results[name].to_numpy() for name in (AXES[self.axis], *names)}
        keys = zip(*(self.results[key].to_pylist() for key in ("optimizer", "dataset", "seed")), strict=True)
        rows: dict[tuple[int, int, int], list[int]] = {}
        for row, (optimizer, dataset, seed) in enumerate(keys):
            place = (self.optimizers.index(optimizer), self.datasets.index(dataset), self.seeds.index(seed))
            rows.setdefault(place, []).append(row)
        return {
            place: (columns[AXES[self.axis]][own].astype(np.float64), {name: columns[name][own] for name in names})
            for place, own in rows.items()
        }


def regret_key(split: str, mark: float) -> str:
    """The summary's column for the regret on `split` at a share of the budget."""
    return f"{split}_regret_{mark * 100:.0f}"


def counted(counts: Mapping[str, int]) -> str:
    """`counts` in words, the most frequent first: `stalled (12), out of seconds (3)`."""
    ordered: Sequence[tuple[str, int]] = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name.replace('_', ' ')} ({n})" for name, n in ordered)


def number(value: float, digits: int = 3) -> str:
    """`value` with `digits` decimals, without a sign on zero; `n/a` where it is NaN."""
    return "n/a" if math.isnan(value) else f"{value:z.{digits}f}"
