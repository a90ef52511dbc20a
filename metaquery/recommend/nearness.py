"""How much each dataset of a corpus counts for a new one: more, the more alike their meta-features are."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from metaquery.recommend.knowledge import Floats, Knowledge

BANDWIDTHS = (0.05, 0.1, 0.2, 0.4, math.inf)  # of the kernel; with the last one all datasets count the same

_TOO_FEW = 3  # families from which a bandwidth cannot be chosen


def distances(knowledge: Knowledge, features: Floats) -> Floats:
    """Distance of a new dataset from each of n known ones, (n,), 0 to 1; `features` are in the order of `names`.

    It is the mean difference of ranks among the known datasets, over the meta-features that both have and that vary;
    1 where there is none.
    """
    if not knowledge.names:
        return np.ones(len(knowledge.datasets))
    known = knowledge.features
    shares = np.stack([_share_below(known, row) for row in known])  # (n, names)
    differences = np.abs(shares - _share_below(known, features))
    usable = np.isfinite(differences) & varying(knowledge)
    total = np.where(usable, differences, 0.0).sum(axis=1)
    count = usable.sum(axis=1)
    found: Floats = np.divide(total, count, out=np.ones(len(known)), where=count > 0)
    return found


def varying(knowledge: Knowledge) -> NDArray[np.bool_]:
    """Which meta-features have more than one value among the known datasets, (names,)."""
    there = np.isfinite(knowledge.features)
    high = np.where(there, knowledge.features, -np.inf).max(axis=0)
    low = np.where(there, knowledge.features, np.inf).min(axis=0)
    found: NDArray[np.bool_] = high > low
    return found


def weights(distance: Floats, bandwidth: float) -> Floats:
    """Weights of the datasets at `distance`, (n,), with sum 1: a Gaussian kernel."""
    power = -0.5 * (distance / bandwidth) ** 2
    found = np.exp(power - power.max())
    shares: Floats = found / found.sum()
    return shares


def bandwidth(knowledge: Knowledge) -> float:
    """The largest of BANDWIDTHS whose first choice is about as good on left-out families as any's.

    Good is a low score of the config that it predicts to be the best, each dataset counting the same, and about as good
    within one standard error of the difference from the lowest mean (the rule of Breiman et al., CART, 1984): nearness
    counts only where it is seen to help. Infinite where the families are too few to choose by.
    """
    if len(set(knowledge.families)) < _TOO_FEW:
        return math.inf
    scores = np.empty((len(knowledge.datasets), len(BANDWIDTHS)))
    for row, family in enumerate(knowledge.families):
        others = knowledge.without(family)
        there = np.flatnonzero(knowledge.ran[row])
        distance = distances(others, knowledge.features[row])
        for place, candidate in enumerate(BANDWIDTHS):
            chosen = (weights(distance, candidate) @ others.score[:, there]).argmin()
            scores[row, place] = knowledge.score[row, there[chosen]]
    excess = scores - scores[:, [scores.mean(axis=0).argmin()]]
    close = excess.mean(axis=0) <= excess.std(axis=0, ddof=1) / math.sqrt(len(excess)) + 1e-12
    return BANDWIDTHS[int(np.flatnonzero(close)[-1])]


def _share_below(known: Floats, values: Floats) -> Floats:
    """Place of `values`, (names,), among those of `known`, (n, names), from 0 to 1; NaN where one is missing."""
    below, level = (known < values).sum(axis=0), (known == values).sum(axis=0)
    count = np.isfinite(known).sum(axis=0)
    place = np.divide(below + 0.5 * level, count, out=np.full(len(values), np.nan), where=count > 0)
    return np.where(np.isfinite(values), place, np.nan)
