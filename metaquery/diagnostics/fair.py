"""Two sets of trials compared after the same amount of search."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Chosen(NamedTuple):
    """Expected test scores of what each side chooses, and how probably the first is the better (ties count half)."""

    first: float
    second: float
    ahead: float


def choice(validation: Floats, drawn: int) -> Floats:
    """How probably each of the trials, shape (n,), is the best on validation of `drawn` ones without replacement.

    Exact, over all subsets; equals share.
    """
    n = len(validation)
    subsets = math.comb(n, drawn)
    by_rank = np.array([math.comb(n - 1 - rank, drawn - 1) / subsets for rank in range(n)])
    order = np.argsort(-validation, kind="stable")
    own = np.empty(n)
    own[order] = by_rank
    _, level = np.unique(validation, return_inverse=True)
    shared: Floats = (np.bincount(level, own) / np.bincount(level))[level]
    return shared


def compare(validation: tuple[Floats, Floats], test: tuple[Floats, Floats], drawn: int) -> Chosen:
    """Both sides draw `drawn` of their trials, choose the best on validation, and are judged by its test score."""
    first, second = (choice(scores, drawn) for scores in validation)
    ahead = np.sign(test[0][:, None] - test[1][None, :]) / 2 + 0.5
    return Chosen(float(first @ test[0]), float(second @ test[1]), float(first @ ahead @ second))
