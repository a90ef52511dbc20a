"""The measures against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metaquery.evaluation.measures import (
    average_rank,
    bootstrap_interval,
    log_grid,
    mid_ranks,
    normalised_regret,
    step_at,
)


def test_log_grid_includes_both_ends_exactly() -> None:
    np.testing.assert_allclose(log_grid(1, 1000, 4), [1, 10, 100, 1000])
    for high in (0.3, 3600.0, 1e5 / 3):
        grid = log_grid(high / 7, high, 50)
        assert (grid[0], grid[-1]) == (high / 7, high)
        assert (np.diff(grid) > 0).all()


def test_a_value_holds_from_its_moment_on() -> None:
    times, values = np.array([2.0, 5.0, 5.0]), np.array([0.6, 0.4, 0.3])
    grid = np.array([1.0, 2.0, 4.9, 5.0, 100.0])
    np.testing.assert_array_equal(step_at(times, values, grid, before=1.0), [1.0, 0.6, 0.6, 0.3, 0.3])
    np.testing.assert_array_equal(step_at(np.empty(0), np.empty(0), grid, before=1.0), np.ones(5))


def test_regret_is_zero_at_the_best_and_one_at_the_worst() -> None:
    np.testing.assert_allclose(normalised_regret(np.array([0.1, 0.2, 0.5]), 0.1, 0.5), [0, 0.25, 1])
    np.testing.assert_array_equal(normalised_regret(np.array([0.3, 0.3]), 0.3, 0.3), [0, 0])


def test_equal_values_share_their_ranks() -> None:
    values = np.array([[0.1, 0.5], [0.3, 0.5], [0.1, 0.5], [0.2, 0.9]])
    np.testing.assert_array_equal(mid_ranks(values), [[1.5, 2], [4, 2], [1.5, 2], [3, 4]])


@given(hnp.arrays(float, (4, 3), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])))
def test_ranks_always_sum_to_the_same(values: np.ndarray) -> None:
    np.testing.assert_allclose(mid_ranks(values).sum(axis=0), 10)


def test_average_rank_ranks_within_dataset_and_seed() -> None:
    # two optimizers, two datasets, two seeds, one time: the first wins 3 of 4 pairs, whatever the sizes
    regret = np.array([[[0.1, 0.2], [0.0, 0.9]], [[0.2, 0.3], [0.8, 0.1]]])[..., None]
    np.testing.assert_allclose(average_rank(regret), [[1.25], [1.75]])


def test_bootstrap_intervals() -> None:
    values = np.array([0.0, 1.0])
    low, high = bootstrap_interval(values)  # a quarter of the resamples is all zeros, a quarter all ones
    assert (low, high) == (0.0, 1.0)
    values = np.random.default_rng(0).normal(size=(400, 3)) + [0, 1, 2]
    low, high = bootstrap_interval(values)
    standard_error = values.std(axis=0) / 20
    np.testing.assert_allclose(low, values.mean(axis=0) - 1.96 * standard_error, atol=0.02)
    np.testing.assert_allclose(high, values.mean(axis=0) + 1.96 * standard_error, atol=0.02)


def test_bootstrap_is_the_same_every_time_and_nothing_for_one_unit() -> None:
    values = np.random.default_rng(1).random((6, 2))
    np.testing.assert_array_equal(bootstrap_interval(values), bootstrap_interval(values))
    assert np.isnan(bootstrap_interval(values[:1])).all()


@pytest.mark.parametrize("n", [2, 5, 9])
def test_a_constant_has_an_interval_of_no_width(n: int) -> None:
    low, high = bootstrap_interval(np.full((n, 2), 0.3))
    np.testing.assert_allclose([low, high], 0.3)
