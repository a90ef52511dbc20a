"""Measures of optimizers: pure functions, arrays in, arrays out.

Regrets have the shape (optimizers, datasets, seeds, times). Every dataset counts the same, whatever happened on
it; the seeds of two optimizers are paired.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000
CONFIDENCE = 0.95


def log_grid(low: float, high: float, n: int = 120) -> Floats:
    """`n` times from `low` to `high`, both included, evenly spaced on a logarithmic axis, shape (n,)."""
    grid = np.geomspace(low, high, n)
    grid[0], grid[-1] = low, high  # geomspace may miss the ends by a bit, and a budget must include its last moment
    return grid


def step_at(times: Floats, values: Floats, grid: Floats, before: float) -> Floats:
    """The value that holds at each time of `grid`, shape (n_grid,); `before` where none holds yet.

    `times`, ascending, and `values`, both of shape (n,), say from when on each value holds.
    """
    position = np.searchsorted(times, grid, side="right")
    result: Floats = np.concatenate([[before], values])[position]
    return result


def normalised_regret(loss: Floats, best: float, worst: float) -> Floats:
    """(loss - best) / (worst - best), of the shape of `loss`; 0 everywhere where best and worst are the same."""
    return (loss - best) / (worst - best) if worst > best else np.zeros_like(loss)


def mid_ranks(values: Floats) -> Floats:
    """Ranks from 1 (smallest) along the first axis, equal values sharing the mean of their ranks; same shape."""
    smaller = (values[None] < values[:, None]).sum(axis=1)
    equal = (values[None] == values[:, None]).sum(axis=1)
    result: Floats = smaller + (equal + 1) / 2.0
    return result


def average_rank(regret: Floats) -> Floats:
    """Mean rank over seeds and datasets of each optimizer, 1 being best, shape (optimizers, times).

    Optimizers are ranked within each dataset and seed, from `regret` of shape (optimizers, datasets, seeds, times).
    """
    result: Floats = mid_ranks(regret).mean(axis=2).mean(axis=1)
    return result


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
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return low, high
