"""What makes scores differ: configurations, seeds and folds."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaquery.diagnostics.curves import Z95

Floats = NDArray[np.float64]

MIN_DEGREES = 5
"""Fewer degrees of freedom tell nothing about a deviation: its 95 % interval would span a factor of more than four."""


class Spread(NamedTuple):
    """A standard deviation, its 95 % interval and the degrees of freedom that it rests on.

    NaN with fewer than MIN_DEGREES; the interval is that of normal errors (chi-squared).
    """

    deviation: float
    low: float
    high: float
    degrees: int

    @classmethod
    def of(cls, squares: float, degrees: int) -> Spread:
        """From a sum of squares."""
        from scipy.stats import chi2

        if degrees < MIN_DEGREES:
            return cls(math.nan, math.nan, math.nan, degrees)
        low, high = (math.sqrt(squares / float(chi2.ppf(share, degrees))) for share in (0.975, 0.025))
        return cls(math.sqrt(squares / degrees), low, high, degrees)


def within(groups: Sequence[Floats]) -> Spread:
    """The deviation within `groups`, each of scores (n,) of the same thing done again, pooled over them."""
    degrees = sum(len(group) - 1 for group in groups)
    return Spread.of(sum(float(((group - group.mean()) ** 2).sum()) for group in groups), degrees)


def beyond_columns(scores: Floats, rows: Sequence[Hashable], columns: Sequence[Hashable]) -> Spread:
    """The deviation of `scores` (n,) from a sum of what is common to a row and what is common to a column.

    For configs as rows and folds as columns: what a fold does to one config and not to all, the part of the noise of
    folds that changes the order of configs. The residual of a two-way analysis of variance without replication, which
    may have gaps.
    """
    blocks = []
    for labels in (rows, columns):
        place = {label: i for i, label in enumerate(dict.fromkeys(labels))}
        blocks.append(np.eye(len(place))[[place[label] for label in labels]])
    design = np.hstack(blocks) if len(scores) else np.empty((0, 1))
    fit, _, rank, _ = np.linalg.lstsq(design, scores, rcond=None)
    return Spread.of(float(((scores - design @ fit) ** 2).sum()), len(scores) - int(rank))


def told_apart(scores: Floats, noise: float) -> float:
    """Share of the pairs of `scores` (n,) that differ by more than the noise of two runs explains in 95 % of cases.

    `noise` is the standard deviation of one run. NaN where that is, and for fewer than two scores.
    """
    if math.isnan(noise) or len(scores) < 2:
        return math.nan
    gaps = np.abs(scores[:, None] - scores[None, :])[np.triu_indices(len(scores), 1)]
    return float((gaps > Z95 * math.sqrt(2) * noise).mean())
