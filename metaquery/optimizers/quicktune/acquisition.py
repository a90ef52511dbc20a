"""Which config to train on: the expected improvement of its next epoch, per second that it costs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metaquery.optimizers.quicktune.encoding import Array


def expected_improvement(mean: Array, deviation: Array, best: Array) -> Array:
    """How far below `best` a normal loss is expected to fall, where it falls below; all shapes (n,)."""
    from scipy.special import ndtr

    z = (best - mean) / deviation
    density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    improvement: Array = deviation * (z * ndtr(z) + density)
    return np.maximum(improvement, 0.0)  # rounding may leave a hair below


def best_at(losses: Array, epochs: NDArray[np.int64]) -> Array:
    """For each of `epochs` (1-based), shape (n,), the best loss seen at exactly it, else after fewer epochs.

    `losses` has shape (configs, epochs), NaN where not run; where nothing was seen that early, the best of all.
    """
    seen = np.where(np.isfinite(losses), losses, np.inf)
    exact = seen.min(axis=0)
    shorter = np.minimum.accumulate(exact)
    best = np.where(np.isfinite(exact), exact, shorter)
    chosen: Array = np.where(np.isfinite(best), best, seen.min())[epochs - 1]
    return chosen
