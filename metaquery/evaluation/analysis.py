"""From the tidy results of an evaluation to its curves, its leaderboard and its verdict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from metaquery.evaluation.measures.aggregate import bootstrap_interval
from metaquery.evaluation.measures.ranks import average_rank, mid_ranks
from metaquery.evaluation.measures.regret import Floats, area_under_steps, gap, log_grid, step_at
from metaquery.evaluation.studies import FAILED
from metaquery.metrics import metric

if TYPE_CHECKING:
    import pyarrow as pa

    from metaquery.evaluation.statistics import Statistics

MARKS = (0.1, 0.25, 1.0)  # shares of the budget that the summary reports
AXES = {"seconds": "clock_seconds", "epochs": "epochs", "trials": "evaluations"}  # budget -> column that spends it
BEFORE_FIRST = 1.0  # regret of a study that has no incumbent yet: that of the worst value


Place = tuple[int, int, int]  # of a study: optimizer, dataset and seed, by index


@dataclass(frozen=True, slots=True)
class Band:
    """A mean, or another statistic, with the ends of its 95 % interval, NaN where there is none; numbers or arrays."""

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
    def judged(self) -> str:
        """The split that optimizers are judged by: as the protocol says, else test wherever there is one."""
        return str(self.provenance["judged"])

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have values: the judged one, then the other where there is one."""
        return tuple(sorted(self.provenance["splits"], key=lambda split: split != self.judged))

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
        result = np.full((*self.shape, len(times)), BEFORE_FIRST)
        for place, (at, columns) in self._studies.items():
            result[place] = step_at(at, columns[f"{split}_regret"], times, BEFORE_FIRST)
        return result

    def final_regret(self, split: str) -> Floats:
        """Normalised regret on `split` of the last incumbent, which was chosen on validation.

        Shape (optimizers, datasets, seeds). A study without an incumbent, such as a failed one, has a regret of 1.
        """
        return self.regret(split, np.array([self.limit]))[..., 0]

    def area(self, split: str) -> Floats:
        """Mean regret on `split` over the whole budget, from its start, shape (optimizers, datasets, seeds)."""
        result = np.full(self.shape, BEFORE_FIRST)
        for place, (at, columns) in self._studies.items():
            result[place] = area_under_steps(at, columns[f"{split}_regret"], self.limit, BEFORE_FIRST)
        return result

    def final(self, split: str) -> Floats:
        """The metric of the last incumbent on `split`, such as raw AUC, shape (optimizers, datasets, seeds).

        A study without an incumbent, or whose test value is undefined, counts as the worst value of its dataset's
        table.
        """
        worst = self._of_datasets(split, "worst")
        result = np.empty(self.shape)
        result[:] = worst[None, :, None]
        for place, (_, columns) in self._studies.items():
            value = columns[split][-1]
            result[place] = worst[place[1]] if np.isnan(value) else value
        return result

    def gap_to_default(self, split: str) -> Floats:
        """How much better than the fully trained default config the last incumbent is, in the metric's unit.

        Shape (optimizers, datasets, seeds); NaN on datasets whose default config failed.
        """
        sign = 1.0 if self.from_loss(0.0) < self.from_loss(1.0) else -1.0  # 1 where the metric is itself a loss
        return gap(sign * self.final(split), sign * self._of_datasets(split, "default"))

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

    def ranks(self, split: str) -> list[Band]:
        """Average rank within dataset and seed over the grid, one Band of arrays (times,) per optimizer."""
        return [self.band(values) for values in mid_ranks(self.regret(split, self.grid))]

    @cached_property
    def statistics(self) -> Statistics:
        """Aggregates, tests, ratings and trade-offs of the final results."""
        from metaquery.evaluation.statistics import Statistics

        return Statistics(self)

    @cached_property
    def summary(self) -> list[dict[str, Any]]:
        """The leaderboard: one row of named numbers per optimizer, the lowest final regret first, by `judged`."""
        marks = np.array(MARKS) * self.limit
        regret = {split: self.regret(split, marks) for split in self.splits}
        rank = {split: average_rank(regret[split])[:, -1] for split in self.splits}
        means = {
            f"{name}_{split}": values(split).mean(axis=2).mean(axis=1)
            for name, values in (("final", self.final), ("gap", self.gap_to_default), ("area", self.area))
            for split in self.splits
        } | {f"rank_{split}": rank[split] for split in self.splits}
        rows = []
        for i, label in enumerate(self.optimizers):
            row: dict[str, Any] = {"optimizer": label}
            for split in self.splits:
                band = self.band(regret[split][i])
                for j, mark in enumerate(MARKS):
                    key = regret_key(split, mark)
                    row |= {key: band.mean[j], f"{key}_low": band.low[j], f"{key}_high": band.high[j]}
            row |= {name: float(values[i]) for name, values in means.items()}
            studies = self.studies(optimizer=label)
            for name in ("evaluations", "epochs", "clock_seconds"):
                row[name] = float(np.mean([study[name] for study in studies]))
            row["stops"] = counted(Counter(study["stop"] for study in studies))
            rows.append(row)
        return sorted(rows, key=lambda row: [row[regret_key(split, 1)] for split in self.splits])

    def studies(self, **where: Any) -> list[Mapping[str, Any]]:
        """The studies whose fields equal `where`."""
        return [s for s in self.provenance["studies"] if all(s[key] == value for key, value in where.items())]

    @cached_property
    def failures(self) -> dict[tuple[str, str, str], list[int]]:
        """The seeds of the studies whose optimizer raised, by optimizer, dataset and error."""
        seeds: dict[tuple[str, str, str], list[int]] = {}
        for study in self.studies(stop=FAILED):
            seeds.setdefault((study["optimizer"], study["dataset"], study["error"]), []).append(study["seed"])
        return seeds

    def statuses(self, **where: Any) -> Counter[str]:
        """How the evaluations of those studies ended."""
        total: Counter[str] = Counter()
        for study in self.studies(**where):
            total.update(study["statuses"])
        return total

    def from_loss(self, loss: float) -> float:
        """A loss in the metric's own direction."""
        return metric(self.provenance["benchmark"]["metric"]).from_loss(loss)

    def last(self, column: str) -> Floats:
        """`column` of the results at the last incumbent, shape (optimizers, datasets, seeds); NaN without one."""
        result = np.full(self.shape, math.nan)
        for place, rows in self._rows.items():
            result[place] = self._columns[column][rows[-1]]
        return result

    def incumbents(self, place: Place, columns: Sequence[str]) -> Floats:
        """`columns` of the results of the study at `place` in the arrays, shape (incumbents, columns)."""
        rows = self._rows.get(place, [])
        return np.stack([self._columns[name][rows] for name in columns], axis=-1)

    def _of_datasets(self, split: str, name: str) -> Floats:
        return np.array([item[split][name] for item in self.provenance["datasets"]], dtype=np.float64)

    @property
    def shape(self) -> Place:
        """Optimizers, datasets and seeds: the shape of all arrays of studies."""
        return len(self.optimizers), len(self.datasets), len(self.seeds)

    @cached_property
    def _columns(self) -> dict[str, Floats]:
        names = ("clock_seconds", "epochs", "evaluations", "cost_seconds")
        splits = [f"{split}{kind}" for split in self.splits for kind in ("", "_regret")]
        return {name: self.results[name].to_numpy().astype(np.float64) for name in (*names, *splits)}

    @cached_property
    def _rows(self) -> dict[Place, list[int]]:
        """The rows of each study, by where it stands in the arrays."""
        index = [{name: i for i, name in enumerate(names)} for names in (self.optimizers, self.datasets, self.seeds)]
        keys = zip(*(self.results[key].to_pylist() for key in ("optimizer", "dataset", "seed")), strict=True)
        rows: dict[Place, list[int]] = {}
        for row, (optimizer, dataset, seed) in enumerate(keys):
            rows.setdefault((index[0][optimizer], index[1][dataset], index[2][seed]), []).append(row)
        return rows

    @cached_property
    def _studies(self) -> dict[Place, tuple[Floats, dict[str, Floats]]]:
        """Of each study the times of its incumbents on the axis, and their values by column."""
        axis = AXES[self.axis]
        return {
            place: (self._columns[axis][rows], {name: values[rows] for name, values in self._columns.items()})
            for place, rows in self._rows.items()
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
