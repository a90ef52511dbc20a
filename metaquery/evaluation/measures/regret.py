"""Regret over time: how it is normalised, where it stands when, and what it adds up to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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


def area_under_steps(times: Floats, values: Floats, end: float, before: float) -> float:
    """The mean over the time from 0 to `end` of the value that holds: the exact area under the steps, over `end`.

    `times` and `values` as for `step_at`; what comes after `end` does not count.
    """
    edges = np.clip(np.concatenate([[0.0], times, [end]]), 0.0, end)
    return float(np.diff(edges) @ np.concatenate([[before], values]) / end)


def target_ecdf(regret: Floats, targets: Floats) -> Floats:
    """Share of targets reached so far, shape (optimizers, times).

    A target is one of `targets`, shape (n_targets,), on one dataset with one seed; it stays reached. `regret` has the
    shape (optimizers, datasets, seeds, times). Hansen et al. (COCO, 2021) call it the runtime ECDF.
    """
    best = np.minimum.accumulate(regret, axis=-1)
    reached = best[..., None] <= targets  # (optimizers, datasets, seeds, times, targets)
    result: Floats = reached.mean(axis=(1, 2, 4))
    return result


def gap(losses: Floats, reference: Floats) -> Floats:
    """How much lower each loss is than its dataset's `reference`, shape of `losses` (optimizers, datasets, ...).

    `reference` has the shape (datasets,). Positive where the optimizer beats it, NaN where there is none.
    """
    return reference.reshape(-1, *[1] * (losses.ndim - 2)) - losses
