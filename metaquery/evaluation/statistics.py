"""Statistics of the final results of an evaluation: everything but curves over time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, product
from typing import Any

import numpy as np

from metaquery.evaluation.analysis import Analysis, Band
from metaquery.evaluation.measures.aggregate import (
    interquartile_mean,
    probability_of_improvement,
    profile,
    stratified_bootstrap,
)
from metaquery.evaluation.measures.elo import elo
from metaquery.evaluation.measures.pareto import front, hypervolume
from metaquery.evaluation.measures.regret import Floats, target_ecdf
from metaquery.evaluation.measures.significance import CriticalDifference, corrected_resampled, critical_difference

TARGETS = np.geomspace(1e-3, 1.0, 31)[:-1]  # regrets to be reached
THRESHOLDS = np.linspace(0.0, 1.0, 101)  # regrets of a performance profile


@dataclass(frozen=True, slots=True)
class Profiles:
    """Share of runs with a regret of at most each threshold; `shares` are arrays (optimizers, thresholds)."""

    thresholds: Floats
    shares: Band


@dataclass(frozen=True, slots=True)
class Differences:
    """How much lower the regret of the optimizer of a row is than that of a column; arrays (optimizers, optimizers).

    `mean` and its interval by Nadeau and Bengio's corrected resampling over datasets, with `ratio` the mean size of
    what tests over what trains in the protocol's folds; `p` that of no difference. NaN on the diagonal.
    """

    mean: Floats
    low: Floats
    high: Floats
    p: Floats
    ratio: float


@dataclass(frozen=True, slots=True)
class TradeOff:
    """Quality against the cost of the config found, one point per optimizer, arrays (optimizers,).

    `metric` is the mean of the last incumbent, `cost_seconds` the geometric mean over datasets of what training it
    alone costs, NaN where it has no incumbent on some dataset; `on_front` says which optimizers no other one is better
    than in both.
    """

    metric: Floats
    cost_seconds: Floats
    on_front: tuple[int, ...]


@dataclass(frozen=True)
class Statistics:
    """By the regret of the last incumbent on the judged split, chosen on validation; equal weight per dataset."""

    analysis: Analysis

    @cached_property
    def regret(self) -> Floats:
        """Final regret on the judged split, shape (optimizers, datasets, seeds)."""
        return self.analysis.final_regret(self.analysis.judged)

    @cached_property
    def iqm(self) -> Band:
        """Interquartile mean of the final regret, arrays (optimizers,), intervals over seeds within each dataset."""
        return self._aggregated(lambda values: interquartile_mean(values.reshape(*values.shape[:-2], -1)))

    @cached_property
    def profiles(self) -> Profiles:
        """Performance profiles of the final regret."""
        return Profiles(THRESHOLDS, self._aggregated(lambda values: profile(values, THRESHOLDS)))

    @cached_property
    def improvement(self) -> Band:
        """Probability that the optimizer of a row beats that of a column, arrays (optimizers, optimizers)."""
        return self._aggregated(probability_of_improvement)

    @cached_property
    def critical_difference(self) -> CriticalDifference | None:
        """Ranks and tests over datasets, on means over seeds; None with one dataset or one optimizer."""
        return critical_difference(self.regret.mean(axis=2))

    @cached_property
    def elo(self) -> Band:
        """Elo ratings, arrays (optimizers,), intervals over datasets."""
        return Band(*elo(self.regret))

    @cached_property
    def differences(self) -> Differences:
        """Mean differences of all pairs with corrected intervals, for few datasets."""
        means = self.regret.mean(axis=2)
        k = len(means)
        mean, low, high, p = (np.full((k, k), math.nan) for _ in range(4))
        for i, j in permutations(range(k), 2):
            mean[i, j], low[i, j], high[i, j], p[i, j] = corrected_resampled(means[j] - means[i], self._ratio)
        return Differences(mean, low, high, p, self._ratio)

    def ecdf(self, split: str) -> Floats:
        """Share of (dataset, seed, target) reached over the analysis's grid, shape (optimizers, times)."""
        return target_ecdf(self.analysis.regret(split, self.analysis.grid), TARGETS)

    @cached_property
    def hypervolume(self) -> Floats:
        """Area of (regret, cost) that a study's incumbents dominate, shape (optimizers, datasets, seeds), at most 1.

        Regret on the judged split is (1 - AUC) scaled by the normaliser; cost is what training the config alone to that
        epoch takes, as a share of the most expensive trial of the dataset's table. The reference point is (1, 1).
        """
        longest = [item["longest_seconds"] for item in self.analysis.provenance["datasets"]]
        columns = (f"{self.analysis.judged}_regret", "cost_seconds")
        result = np.zeros(self.regret.shape)
        optimizers, datasets, seeds = map(range, self.analysis.shape)
        for place in product(optimizers, datasets, seeds):
            points = self.analysis.incumbents(place, columns)
            result[place] = hypervolume(points / (1.0, longest[place[1]]), (1.0, 1.0))
        return result

    @cached_property
    def trade_off(self) -> TradeOff:
        """Quality of what each optimizer found against what training it costs."""
        values = self.analysis.final(self.analysis.judged).mean(axis=2).mean(axis=1)
        seconds = np.exp(np.log(np.maximum(self.analysis.last("cost_seconds"), 1e-9)).mean(axis=2).mean(axis=1))
        regret = self.regret.mean(axis=2).mean(axis=1)
        points = np.stack([regret, seconds], axis=1)
        best = front(points[np.isfinite(seconds)])
        on_front = tuple(i for i, point in enumerate(points) if (best == point).all(axis=1).any())
        return TradeOff(values, seconds, on_front)

    @property
    def _ratio(self) -> float:
        """Mean over folds of the number of datasets left out together over that of those that train; 0 if none do."""
        folds = self.analysis.provenance["protocol"]["folds"]
        left_out = [sum(other["group"] == fold["group"] for other in folds) for fold in folds]
        pairs = [(n, len(fold["train"])) for n, fold in zip(left_out, folds, strict=True) if fold["train"]]
        return float(np.mean([n / m for n, m in pairs])) if pairs else 0.0

    def _aggregated(self, statistic: Any) -> Band:
        low, high = stratified_bootstrap(self.regret, statistic)
        return Band(statistic(self.regret), low, high)
