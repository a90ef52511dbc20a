"""Ranks of optimizers within a dataset and seed."""

from __future__ import annotations

from metaquery.evaluation.measures.regret import Floats


def mid_ranks(values: Floats) -> Floats:
    """Ranks from 1 (smallest) along the first axis, equal values sharing the mean of their ranks; same shape."""
    smaller = (values[None] < values[:, None]).sum(axis=1)
    equal = (values[None] == values[:, None]).sum(axis=1)
    result: Floats = smaller + (equal + 1) / 2.0
    return result


def average_rank(regret: Floats) -> Floats:
    """Mean rank over seeds and datasets of each optimizer, 1 being best, shape (optimizers, times).

    Optimizers are ranked within each dataset and seed, from `regret` of shape (optimizers, datasets, seeds, times).
    """
    result: Floats = mid_ranks(regret).mean(axis=2).mean(axis=1)
    return result
