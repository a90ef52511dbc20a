"""Aggregates over datasets and seeds, with bootstrap intervals.

IQM, performance profiles and probability of improvement are those of Agarwal et al. (NeurIPS 2021). They draw seeds
within each dataset (their strata are tasks), so their intervals are about other seeds on the same datasets. `mean
interval` draws datasets: it is about other datasets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from metaquery.evaluation.measures.regret import Floats

RESAMPLES = 2000
CONFIDENCE = 0.95
_CHUNK = 2**17  # numbers that are resampled at once


def bootstrap_interval(values: Floats, seed: int = 0) -> tuple[Floats, Floats]:
    """Percentile bootstrap 95 % interval of the mean over the first axis; low and high, each of shape values[0].

    `values` has shape (units, ...); the units, datasets as a rule, are drawn with replacement (Efron 1979). NaN
    where there is a single unit.
    """
    n = len(values)
    if n < 2:
        nothing = np.full(values.shape[1:], math.nan)
        return nothing, nothing.copy()
    draws = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    weights = np.stack([(draws == unit).sum(axis=1) for unit in range(n)], axis=1) / n  # (resamples, units)
    means = np.tensordot(weights, values, axes=1)  # (resamples, ...)
    return percentile_interval(means)


def percentile_interval(resampled: Floats) -> tuple[Floats, Floats]:
    """The ends of the central 95 % of `resampled` along its first axis, shape (resamples, ...); each of shape (...)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return low, high


def interquartile_mean(values: Floats) -> Floats:
    """Mean of the middle half of the last axis, shape (...); values at the quartiles count by the part inside.

    For `values` of shape (..., runs), with all datasets' runs in the last axis, and as many runs of each. Where the
    number of runs is no multiple of 4, `scipy.stats.trim_mean` would cut a little less than a quarter on each side.
    """
    ordered = np.sort(values, axis=-1)
    n = values.shape[-1]
    edges = np.clip(np.arange(n + 1), n / 4, 3 * n / 4)  # run i stands for the part from i to i + 1
    result: Floats = ordered @ (np.diff(edges) / (n / 2))
    return result


def stratified_bootstrap(values: Floats, statistic: Callable[[Floats], Floats], seed: int = 0) -> tuple[Floats, Floats]:
    """95 % interval of `statistic` when seeds are drawn with replacement within each dataset; low and high.

    `values` has the shape (optimizers, datasets, seeds); `statistic` takes an array (resamples, optimizers, datasets,
    seeds) and gives one of shape (resamples, ...). The same seeds are drawn for all optimizers, as they are paired.
    NaN where there is a single seed.
    """
    if values.shape[2] < 2:
        nothing = np.full(statistic(values[None]).shape[1:], math.nan)
        return nothing, nothing.copy()
    return percentile_interval(np.concatenate([statistic(drawn) for drawn in _resampled(values, seed)]))


def profile(values: Floats, thresholds: Floats) -> Floats:
    """Share of runs with a value of at most each threshold, shape (..., thresholds); equal weight per dataset.

    `values` has the shape (..., datasets, seeds), `thresholds` (thresholds,).
    """
    result: Floats = np.stack([(values <= threshold).mean(axis=(-2, -1)) for threshold in thresholds], axis=-1)
    return result


def probability_of_improvement(values: Floats) -> Floats:
    """How likely the optimizer of a row has a lower value than that of a column, shape (..., optimizers, optimizers).

    On each dataset the share of all pairs of runs, a tie being half (the Mann-Whitney statistic); then the mean over
    datasets. `values` has the shape (..., optimizers, datasets, seeds).
    """
    one, other = values[..., :, None, :, :, None], values[..., None, :, :, None, :]
    wins: Floats = ((one < other) + 0.5 * (one == other)).mean(axis=(-2, -1)).mean(axis=-1)
    return wins


def _resampled(values: Floats, seed: int) -> Iterator[Floats]:
    """RESAMPLES times `values` with other seeds, in arrays (resamples, optimizers, datasets, seeds) of limited size."""
    n_datasets, n_seeds = values.shape[1:]
    rng = np.random.default_rng(seed)
    at_once = max(1, _CHUNK // values.size)
    for start in range(0, RESAMPLES, at_once):
        n = min(at_once, RESAMPLES - start)
        draws: NDArray[np.int64] = rng.integers(0, n_seeds, (n, 1, n_datasets, n_seeds))
        yield np.take_along_axis(values[None], draws, axis=3)
