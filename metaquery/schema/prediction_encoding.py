"""How class probabilities become small integers, with bounded errors of AUC and loss.

For one sample with probabilities p and most probable class t (the first on ties), class i becomes the level
`round(log(p_t / p_i) / step)`, and p is `softmax(-step * level)` in single precision; the largest level means p = 0.
One width and one step for each trial, checkpoint and split spread the levels evenly over the range that occurs. The
width is 8 bits where that keeps the errors below `MAX_ERROR`, else as many more as it takes, and beyond 16 the
probabilities are kept as they are. So a saturated model keeps its ranks, and a barely trained one too.

The most probable class is exact, whatever the width: it alone, and classes behind it that are as probable, have level
0, and every other class is less probable by at least two units in the last place.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaquery.metrics import METRICS

MAX_ERROR = {"auc": 5e-4, "loss": 5e-4}
"""Bound on what storing adds to a metric of the probabilities of one checkpoint and split."""

PLANES = 4  # bytes of a level, the lowest first; those of higher value are mostly zero, which costs next to nothing
EXACT = 32  # the width that marks probabilities kept as they are: levels are the bits of a single-precision number

_WIDTHS = range(8, 17)
_SMALLEST_STEP = 2**-22  # two units in the last place: below it the most probable class could change

Levels = NDArray[np.uint32]


class Encoded(NamedTuple):
    """The levels of one checkpoint and split, shape (n, n_classes), with their step (0 if kept exactly) and width."""

    levels: Levels
    step: float
    width: int


def encode(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> Encoded:
    """Encode `probabilities`, (n, n_classes), finite, not negative, rows summing to 1, for true classes `labels`, (n,).

    What is stored is their single precision.
    """
    single = probabilities.astype(np.float32)
    exact, truth = single.astype(np.float64), labels.astype(np.int64)
    values = {name: METRICS[name].function(truth, exact) for name in MAX_ERROR}
    distance = _distances(exact)
    finite = np.isfinite(distance)
    for width in _WIDTHS:
        largest = 2**width - 2
        step = max(float(distance[finite].max()) / largest, _SMALLEST_STEP)
        levels = _rounded(distance, finite, step, width)
        p = decode(Encoded(levels, step, width))
        if all(_close(METRICS[name].function(truth, p), values[name], bound) for name, bound in MAX_ERROR.items()):
            return Encoded(levels, step, width)
    return Encoded(single.view(np.uint32), 0.0, EXACT)


def decode(encoded: Encoded) -> NDArray[np.float64]:
    """Probabilities, shape (n, n_classes): the inverse of `encode` up to its errors; rows sum to 1."""
    levels, step, width = encoded
    if width == EXACT:
        return levels.view(np.float32).astype(np.float64)
    weights = np.exp(levels * -step)
    weights[levels == 2**width - 1] = 0.0
    p: NDArray[np.float64] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
    return p


def to_planes(levels: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Levels of k checkpoints, shape (k, n, n_classes), as bytes, shape (PLANES, k, n_classes, n)."""
    k, n, n_classes = levels.shape
    content = np.ascontiguousarray(levels.transpose(0, 2, 1), dtype="<u4").view(np.uint8)
    return np.ascontiguousarray(content.reshape(k, n_classes, n, PLANES).transpose(3, 0, 1, 2))


def from_planes(planes: NDArray[np.uint8]) -> Levels:
    """Bytes of one checkpoint, shape (PLANES, n_classes, n), as levels, shape (n, n_classes)."""
    return np.ascontiguousarray(planes.transpose(2, 1, 0)).view("<u4")[..., 0].astype(np.uint32, copy=False)


def _distances(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log of how much more probable the most probable class is, shape (n, n_classes); infinite where p is 0."""
    with np.errstate(divide="ignore"):
        distances: NDArray[np.float64] = np.log(p.max(axis=1, keepdims=True)) - np.log(p)
    return distances


def _rounded(distance: NDArray[np.float64], finite: NDArray[np.bool_], step: float, width: int) -> Levels:
    levels = np.full(distance.shape, 2**width - 1, np.uint32)
    levels[finite] = np.rint(distance[finite] / step)
    before_top = np.arange(distance.shape[1]) < distance.argmin(axis=1)[:, None]
    levels[(levels == 0) & before_top] = 1
    return levels


def _close(value: float, exact: float, bound: float) -> bool:
    return abs(value - exact) <= bound or (math.isnan(value) and math.isnan(exact))
