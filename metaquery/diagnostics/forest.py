"""Which hyperparameters matter: main effects of a random forest over the configs that were run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaquery.space import Hyperparameter, SearchSpace

Floats = NDArray[np.float64]

MIN_CONFIGS = 20
"""Fewer configs, or configs in which a hyperparameter is active, tell nothing about it."""

MIN_R2 = 0.1
"""A forest that explains less of the variance of configs it has not seen knows nothing to be taken apart."""

_TREES, _LEAF = 200, 2
_LEVELS = 12  # at which the effect of a number is looked at


@dataclass(frozen=True, slots=True)
class Importance:
    """How well the forest predicts configs that its trees have not seen, and by hyperparameter the share of the
    variance of its predictions that is due to it alone; NaN where that cannot be told."""

    r2: float
    shares: dict[str, float]


def importance(space: SearchSpace, settings: Sequence[Mapping[str, Any]], scores: Floats, seed: int = 0) -> Importance:
    """The main effects of the hyperparameters of `space` on `scores` (n,) of the configs `settings`.

    Like a functional ANOVA (Hutter et al., ICML 2014), with the distribution of the configs that were run in place of a
    uniform one: the variance, over the values of a hyperparameter, of the forest's mean prediction with that value in
    all configs, over the variance of its predictions. A hyperparameter that is not active in a config stands at its
    default there; its share is over the configs in which it is active. One that never varies is left out. `r2` is out
    of bag, NaN with fewer than MIN_CONFIGS.
    """
    from sklearn.ensemble import RandomForestRegressor

    axes = [axis for hp in space.hyperparameters if (axis := _Axis.of(hp, settings)) is not None]
    unknown = dict.fromkeys([axis.name for axis in axes], math.nan)
    if len(scores) < MIN_CONFIGS or not axes or np.ptp(scores) == 0:
        return Importance(math.nan, unknown)
    table = np.hstack([axis.columns for axis in axes])
    forest = RandomForestRegressor(_TREES, min_samples_leaf=_LEAF, oob_score=True, random_state=seed)
    r2 = float(forest.fit(table, scores).oob_score_)
    if r2 < MIN_R2:
        return Importance(r2, unknown)
    predicted = forest.predict(table)
    shares, start = {}, 0
    for axis in axes:
        block = slice(start, start + axis.columns.shape[1])
        start = block.stop
        here, total = table[axis.active], float(predicted[axis.active].var())
        if len(here) < MIN_CONFIGS or total == 0:
            shares[axis.name] = math.nan
            continue
        levels, weights = axis.levels()
        changed = np.tile(here, (len(levels), 1))
        changed[:, block] = np.repeat(levels, len(here), axis=0)
        means = forest.predict(changed).reshape(len(levels), len(here)).mean(axis=1)
        centre = np.average(means, weights=weights)
        shares[axis.name] = float(np.average((means - centre) ** 2, weights=weights)) / total
    return Importance(r2, shares)


@dataclass(frozen=True, slots=True)
class _Axis:
    """A hyperparameter as columns of the forest's table: one of each choice for categories, else its place in [0, 1].

    `columns` has the shape (n, width), `active` (n,).
    """

    name: str
    columns: Floats
    active: NDArray[np.bool_]

    @classmethod
    def of(cls, hp: Hyperparameter, settings: Sequence[Mapping[str, Any]]) -> _Axis | None:
        """None where fewer than two values are active."""
        values = [setting.get(hp.name) for setting in settings]
        active = np.array([value is not None for value in values], dtype=bool)
        known = [hp.default if value is None else value for value in values]
        if len({value for value in values if value is not None}) < 2:
            return None
        if hp.kind == "categorical":
            choices = list(dict.fromkeys(known))
            return cls(hp.name, np.eye(len(choices))[[choices.index(value) for value in known]], active)
        return cls(hp.name, np.array([[hp.to_unit(value)] for value in known]), active)

    def levels(self) -> tuple[Floats, NDArray[np.int64]]:
        """The active values, or medians of as many groups of them as there are levels, (levels, width), and how many
        configs have them."""
        values, counts = np.unique(self.columns[self.active], axis=0, return_counts=True)
        if self.columns.shape[1] > 1 or len(values) <= _LEVELS:
            return values, counts
        groups = np.array_split(np.sort(self.columns[self.active, 0]), _LEVELS)
        return np.array([[np.median(group)] for group in groups]), np.array([len(group) for group in groups])
