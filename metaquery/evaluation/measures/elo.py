"""Elo ratings: how likely one optimizer beats another, on one scale."""

from __future__ import annotations

import math

import numpy as np

from metaquery.evaluation.measures.aggregate import RESAMPLES, percentile_interval
from metaquery.evaluation.measures.regret import Floats

CENTRE = 1000.0  # the mean rating
_SCALE = 400 / math.log(10)  # 400 points more are odds of 10 to 1
_PRIOR = 1.0  # games that every pair is taken to have drawn beside those on the datasets
_STEPS = 2000
_CLOSE = 1e-9


def win_shares(values: Floats) -> Floats:
    """How often the optimizer of a row has the lower value than that of a column, shape (datasets, k, k).

    The share of seeds, which are paired, on each dataset; a tie is half a win each. `values` has the shape
    (optimizers, datasets, seeds).
    """
    one, other = values[:, None], values[None]
    wins: Floats = ((one < other) + 0.5 * (one == other)).mean(axis=-1)
    return np.moveaxis(wins, -1, 0)


def ratings(wins: Floats) -> Floats:
    """Elo ratings with a mean of 1000, shape (..., k), from games won, shape (..., k, k).

    The maximum of the likelihood of Bradley and Terry (1952) by the iteration of Hunter (Annals of Statistics, 2004),
    with one drawn game more for each pair, without which an optimizer that never loses would have no finite rating.
    """
    k = wins.shape[-1]
    if k == 1:
        return np.full(wins.shape[:-1], CENTRE)
    off = 1.0 - np.eye(k)
    own = (wins + _PRIOR / 2) * off
    won, games = own.sum(axis=-1), own + np.swapaxes(own, -1, -2)
    strength = np.ones(won.shape)
    for _ in range(_STEPS):
        new = won / (games / (strength[..., :, None] + strength[..., None, :])).sum(axis=-1)
        new /= np.exp(np.log(new).mean(axis=-1, keepdims=True))
        moved = float(np.abs(np.log(new / strength)).max())
        strength = new
        if moved < _CLOSE:
            break
    result: Floats = CENTRE + _SCALE * np.log(strength)
    return result


def elo(values: Floats, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Ratings and the ends of their 95 % intervals, each of shape (optimizers,).

    Every dataset is one game between each pair, won by the share of its seeds. The interval is over datasets drawn with
    replacement, NaN where there is one dataset. `values` has the shape (optimizers, datasets, seeds).
    """
    wins = win_shares(values)
    n = len(wins)
    found = ratings(wins.sum(axis=0))
    if n < 2:
        nothing = np.full(found.shape, math.nan)
        return found, nothing, nothing.copy()
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(np.float64)
    return found, *percentile_interval(ratings(np.tensordot(draws, wins, axes=1)))
