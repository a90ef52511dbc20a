"""What early epochs tell, and the shapes of curves, against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaquery.diagnostics.curves import both, crossing_share, early_regret, rank_correlation, shapes

NAN = math.nan
# Four curves of three epochs: at the first epoch the second is best, at the end the first; the last one ended early.
SCORES = np.array([[0.5, 0.7, 0.9], [0.6, 0.8, 0.75], [0.4, 0.3, 0.2], [0.9, NAN, NAN]])
FIVE = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 5.0], [5.0, 4.0]])  # the last two change places


def test_curves_that_ended_early_do_not_count() -> None:
    assert both(SCORES, 1).tolist() == [[0.5, 0.9], [0.6, 0.75], [0.4, 0.2]]


def test_rank_correlation_with_its_interval() -> None:
    found = rank_correlation(FIVE)
    assert found.value == pytest.approx(0.9)  # 1 - 6 * 2 / (5 * 24)
    margin = 1.959964 * math.sqrt((1 + 0.81 / 2) / 2)
    assert found.low == pytest.approx(math.tanh(math.atanh(0.9) - margin))
    assert found.high == pytest.approx(math.tanh(math.atanh(0.9) + margin))
    assert rank_correlation(FIVE[:, [0, 0]]) == pytest.approx((1.0, 1.0, 1.0), abs=1e-9)


def test_regret_of_the_early_best() -> None:
    assert early_regret(both(SCORES, 1)) == pytest.approx(0.15)
    assert early_regret(both(SCORES, 3)) == 0
    assert early_regret(np.array([[0.5, 0.9], [0.5, 0.7], [0.4, 0.1]])) == pytest.approx(0.1)  # equals share the choice


def test_crossing_pairs_with_the_jackknife_interval() -> None:
    found = crossing_share(FIVE)
    assert found.value == pytest.approx(0.1)
    # Without one of the first three 1 of 6 pairs cross, without one of the others none.
    margin = 1.959964 * math.sqrt(4 / 5 * (3 * (1 / 6 - 0.1) ** 2 + 2 * 0.1**2))
    assert (found.low, found.high) == (0.0, pytest.approx(0.1 + margin))
    assert crossing_share(both(SCORES, 1)).value == pytest.approx(1 / 3)  # the first two curves cross


def test_equals_have_no_order() -> None:
    assert crossing_share(np.array([[0.5, 0.9], [0.5, 0.7], [0.4, 0.1]])).value == 0
    assert math.isnan(crossing_share(np.array([[0.5, 0.9], [0.5, 0.7]])).value)


def test_too_little_is_no_number() -> None:
    assert math.isnan(rank_correlation(FIVE[:3]).value)
    assert math.isnan(rank_correlation(np.stack([np.ones(5), np.arange(5.0)], axis=1)).value)
    assert math.isnan(early_regret(both(SCORES[3:], 1)))
    assert math.isnan(crossing_share(both(SCORES[3:], 1)).value)


@given(st.integers(0, 2**32 - 1))
def test_intervals_hold_their_values(seed: int) -> None:
    pairs = np.random.default_rng(seed).normal(size=(12, 2))
    for found in (rank_correlation(pairs), crossing_share(pairs)):
        assert found.low <= found.value <= found.high


def test_shapes_are_of_complete_curves() -> None:
    found = shapes(SCORES)
    assert found.complete == 3
    assert found.peaked == pytest.approx(2 / 3)
    assert found.fell == pytest.approx(2 / 3)  # by 0.05 and by 0.2
    assert found.stuck == pytest.approx(1 / 3)
    assert shapes(SCORES[3:]).complete == 0
