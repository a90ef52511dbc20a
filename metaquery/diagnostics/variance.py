"""What makes scores differ: configurations, seeds, folds, and which hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Spread(NamedTuple):
    """A standard deviation and the number of degrees of freedom that it rests on; NaN with none."""

    deviation: float
    degrees: int


def pooled_deviation(groups: Sequence[Floats]) -> Spread:
    """The standard deviation within `groups`, each of scores (n,) of the same thing done again, pooled over them."""
    groups = [group for group in groups if len(group) > 1]
    degrees = sum(len(group) - 1 for group in groups)
    if not degrees:
        return Spread(float("nan"), 0)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    return Spread(float(np.sqrt(squares / degrees)), degrees)


def importance(scores: Floats, settings: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    """Share of the variance of `scores` (n,) that each of `settings`, n values by name, accounts for alone.

    The variance of the means by value over the total variance, which for a complete factorial is the main effect of a
    functional ANOVA (Hutter et al., ICML 2014); what is left to one is interactions and noise. Each share is corrected
    for what chance alone gives (omega squared; Hays 1963) and at least 0. None is inactive: a conditional setting is
    judged over the trials in which it is active. Settings with one value are left out.
    """
    found = {}
    for name, values in settings.items():
        here = scores[[value is not None for value in values]]
        levels, of = np.unique([repr(value) for value in values if value is not None], return_inverse=True)
        if len(levels) < 2 or len(here) <= len(levels) or np.ptp(here) == 0:
            continue
        total = float(((here - here.mean()) ** 2).sum())
        counts = np.bincount(of)
        means = np.bincount(of, here) / counts
        between = float((counts * (means - here.mean()) ** 2).sum())
        noise = (total - between) / (len(here) - len(levels))
        found[name] = max(0.0, (between - (len(levels) - 1) * noise) / (total + noise))
    return found
