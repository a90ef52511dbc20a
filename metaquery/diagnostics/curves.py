"""How curves behave: what an early epoch tells about the last, and which curves are not well-behaved.

Scores are of shape (n, epochs), the larger the better, NaN where there is no record.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FALL = 0.02
"""A curve ends ill when its last score is this much below its best; about the standard error of an AUC on a test part
of a few hundred samples."""


def rank_correlation(scores: Floats, epoch: int) -> float:
    """Spearman's correlation of the scores at `epoch`, from 1, with the last ones, over the trials that have both.

    NaN for fewer than three trials and where one of them is constant.
    """
    from scipy.stats import rankdata

    both = _both(scores, epoch)
    if len(both) < 3 or np.ptp(both[:, 0]) == 0 or np.ptp(both[:, 1]) == 0:
        return float("nan")
    ranks = rankdata(both, axis=0)
    return float(np.corrcoef(ranks.T)[0, 1])


def early_regret(scores: Floats, epoch: int) -> float:
    """What is lost at the last epoch by going on with only the trial that is best at `epoch`, from 1.

    The best last score minus that of the chosen trial (the mean over equals), over the trials that have both; NaN
    where there is none.
    """
    both = _both(scores, epoch)
    if not len(both):
        return float("nan")
    early, last = both.T
    return float(last.max() - last[early == early.max()].mean())


def crossing_share(scores: Floats, epoch: int) -> float:
    """Share of the pairs of trials whose order at `epoch`, from 1, is the other way round at the end.

    Pairs that are equal at one of the two do not count; NaN where none is left.
    """
    both = _both(scores, epoch)
    order = np.sign(both[:, None, :] - both[None, :, :])[np.triu_indices(len(both), 1)]
    ordered = order[(order != 0).all(axis=1)]
    return float((ordered[:, 0] != ordered[:, 1]).mean()) if len(ordered) else float("nan")


def _both(scores: Floats, epoch: int) -> Floats:
    pairs: Floats = scores[:, [epoch - 1, -1]]
    complete: Floats = pairs[np.isfinite(pairs).all(axis=1)]
    return complete


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
        return Shapes(0, *[float("nan")] * 3)
    best = whole.max(axis=1)
    return Shapes(
        complete=len(whole),
        peaked=float((whole[:, -1] < best).mean()),
        fell=float((best - whole[:, -1] > FALL).mean()),
        stuck=float((whole[:, 0] == best).mean()),
    )
