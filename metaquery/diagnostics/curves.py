"""How curves behave: what an early epoch tells about the last, and which curves are not well-behaved.

Scores are of shape (n, epochs), the larger the better, NaN where there is no record.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_CURVES = 10
"""Fewer curves, or configs, tell nothing about a dataset."""

FALL = 0.02
"""A curve ends ill when its last score is this much below its best; about the standard error of an AUC on a few hundred
samples."""

Z95 = 1.959964  # standard deviations to either end of a 95 % interval


class Estimate(NamedTuple):
    """A value and the ends of its 95 % interval; NaN where it cannot be told."""

    value: float
    low: float
    high: float


UNKNOWN = Estimate(math.nan, math.nan, math.nan)


def both(scores: Floats, epoch: int) -> Floats:
    """The scores at `epoch`, from 1, and the last ones, (curves, 2), of the trials that have both."""
    pairs: Floats = scores[:, [epoch - 1, -1]]
    complete: Floats = pairs[np.isfinite(pairs).all(axis=1)]
    return complete


def rank_correlation(pairs: Floats) -> Estimate:
    """Spearman's correlation of the two columns of `pairs` (n, 2).

    The interval is that of Fisher's z with the variance of Bonett and Wright (Psychometrika 2000). NaN for fewer than
    four pairs and where a column is constant.
    """
    from scipy.stats import rankdata

    n = len(pairs)
    if n < 4 or (np.ptp(pairs, axis=0) == 0).any():
        return UNKNOWN
    found = float(np.corrcoef(rankdata(pairs, axis=0).T)[0, 1])
    z = np.arctanh(np.clip(found, -1 + 1e-12, 1 - 1e-12))
    margin = Z95 * math.sqrt((1 + found**2 / 2) / (n - 3))
    return Estimate(found, float(np.tanh(z - margin)), float(np.tanh(z + margin)))


def early_regret(pairs: Floats) -> float:
    """What is lost at the end by going on with only the trial that is best early, from scores `pairs` (n, 2).

    The best last score minus that of the chosen trial (the mean over equals); NaN where there is no trial.
    """
    if not len(pairs):
        return math.nan
    early, last = pairs.T
    return max(0.0, float(last.max() - last[early == early.max()].mean()))  # a mean of equals may round above them


def crossing_share(pairs: Floats) -> Estimate:
    """Share of the pairs of trials whose order early is the other way round at the end, from scores `pairs` (n, 2).

    Pairs that are equal at one of the two do not count; NaN where none is left. The interval is the jackknife's over
    trials (Efron 1982), for a trial is in n - 1 pairs; NaN where a trial less leaves none.
    """
    n = len(pairs)
    signs = [np.sign(column[:, None] - column[None, :]).astype(np.int8) for column in pairs.T]
    product = signs[0] * signs[1]
    ordered = (product != 0).sum(axis=1)  # pairs of each trial
    crossing = (product < 0).sum(axis=1)
    if not ordered.any():
        return UNKNOWN
    share = float(crossing.sum() / ordered.sum())
    left = ordered.sum() - 2 * ordered
    if not left.all():
        return Estimate(share, math.nan, math.nan)
    without = (crossing.sum() - 2 * crossing) / left
    margin = Z95 * math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    return Estimate(share, max(0.0, share - margin), min(1.0, share + margin))


class Shapes(NamedTuple):
    """Shares of complete curves: `peaked` have their best epoch before the last; `fell` end more than FALL below it;
    `stuck` are never better than at their first epoch."""

    complete: int
    peaked: float
    fell: float
    stuck: float


def shapes(scores: Floats) -> Shapes:
    """The shapes of the curves without a gap; shares are NaN where there is none."""
    whole = scores[np.isfinite(scores).all(axis=1)]
    if not len(whole):
        return Shapes(0, *[math.nan] * 3)
    best = whole.max(axis=1)
    return Shapes(
        complete=len(whole),
        peaked=float((whole[:, -1] < best).mean()),
        fell=float((best - whole[:, -1] > FALL).mean()),
        stuck=float((whole[:, 0] == best).mean()),
    )
