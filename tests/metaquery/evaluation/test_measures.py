"""The measures over time against values worked out by hand, and the aggregates against independent references."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import mannwhitneyu, rankdata, trim_mean

from metaquery.evaluation.measures.aggregate import (
    bootstrap_interval,
    interquartile_mean,
    probability_of_improvement,
    profile,
    stratified_bootstrap,
)
from metaquery.evaluation.measures.pareto import front, hypervolume
from metaquery.evaluation.measures.ranks import average_rank, mid_ranks
from metaquery.evaluation.measures.regret import (
    area_under_steps,
    gap,
    log_grid,
    normalised_regret,
    step_at,
    target_ecdf,
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


def test_the_area_under_steps_is_that_of_the_rectangles() -> None:
    times, values = np.array([2.0, 5.0]), np.array([0.6, 0.2])
    # 2 s at 1, 3 s at 0.6, 5 s at 0.2, over 10 s
    assert area_under_steps(times, values, 10.0, before=1.0) == pytest.approx((2 * 1 + 3 * 0.6 + 5 * 0.2) / 10)
    assert area_under_steps(times, values, 4.0, before=1.0) == pytest.approx((2 * 1 + 2 * 0.6) / 4)
    assert area_under_steps(np.empty(0), np.empty(0), 4.0, before=1.0) == 1.0


def test_targets_count_once_reached() -> None:
    regret = np.array([[[[0.9, 0.2, 0.5]]], [[[0.9, 0.9, 0.05]]]])  # two optimizers, one dataset, one seed, three times
    targets = np.array([0.1, 0.3, 0.6, 0.8])
    np.testing.assert_allclose(target_ecdf(regret, targets), [[0, 0.75, 0.75], [0, 0, 1]])


def test_the_gap_is_to_the_reference_of_the_dataset() -> None:
    losses = np.array([[[0.1, 0.3], [0.5, 0.5]]])
    np.testing.assert_allclose(gap(losses, np.array([0.2, np.nan])), [[[0.1, -0.1], [np.nan, np.nan]]])


def test_equal_values_share_their_ranks() -> None:
    values = np.array([[0.1, 0.5], [0.3, 0.5], [0.1, 0.5], [0.2, 0.9]])
    np.testing.assert_array_equal(mid_ranks(values), [[1.5, 2], [4, 2], [1.5, 2], [3, 4]])


@given(hnp.arrays(float, (4, 3), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])))
def test_ranks_are_those_of_scipy(values: np.ndarray) -> None:
    np.testing.assert_array_equal(mid_ranks(values), rankdata(values, axis=0))


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


def test_the_interquartile_mean_is_that_of_the_middle_half() -> None:
    values = np.random.default_rng(2).random((3, 40))
    np.testing.assert_allclose(interquartile_mean(values), trim_mean(values, 0.25, axis=-1))
    # of six values, from 1.5 to 4.5: half of the second, the third, the fourth, half of the fifth
    assert interquartile_mean(np.array([0.0, 1, 2, 3, 4, 100])) == pytest.approx((0.5 * 1 + 2 + 3 + 0.5 * 4) / 3)
    assert interquartile_mean(np.array([0.7])) == pytest.approx(0.7)


def test_profiles_count_runs() -> None:
    values = np.array([[[0.1, 0.3], [0.2, 0.9]], [[0.5, 0.5], [0.5, 0.5]]])
    np.testing.assert_allclose(profile(values, np.array([0.1, 0.5, 1.0])), [[0.25, 0.75, 1], [0, 1, 1]])


def test_the_probability_of_improvement_is_the_mean_mann_whitney_statistic() -> None:
    values = np.random.default_rng(3).integers(0, 5, (3, 4, 6)) / 4.0
    found = probability_of_improvement(values)
    for i, j in product(range(3), repeat=2):
        shares = [mannwhitneyu(values[j, d], values[i, d]).statistic / 36 for d in range(4)]
        assert found[i, j] == pytest.approx(np.mean(shares))


def test_the_stratified_bootstrap_draws_seeds_within_each_dataset() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(size=(2, 3, 50)) + np.array([0, 100, 200])[:, None]  # datasets far apart: never mixed
    low, high = stratified_bootstrap(values, lambda drawn: drawn.mean(axis=(-2, -1)))
    error = np.sqrt((values.var(axis=2) / 50).sum(axis=1)) / 3
    np.testing.assert_allclose(low, values.mean(axis=(1, 2)) - 1.96 * error, atol=0.02)
    np.testing.assert_allclose(high, values.mean(axis=(1, 2)) + 1.96 * error, atol=0.02)
    assert np.isnan(stratified_bootstrap(values[:, :, :1], lambda drawn: drawn.mean(axis=(-2, -1)))).all()


def test_paired_optimizers_are_drawn_together() -> None:
    values = np.random.default_rng(5).random((1, 4, 10))
    pair = np.concatenate([values, values + 0.1])  # always the same distance, whatever is drawn
    low, high = stratified_bootstrap(pair, lambda drawn: (drawn[:, 1] - drawn[:, 0]).mean(axis=(-2, -1)))
    np.testing.assert_allclose([low, high], 0.1)


def test_the_hypervolume_is_the_area_of_the_staircase() -> None:
    points = np.array([[0.2, 0.8], [0.5, 0.5], [0.5, 0.6], [0.6, 0.5], [0.8, 0.1], [2.0, 0.0]])
    np.testing.assert_allclose(front(points), [[0.2, 0.8], [0.5, 0.5], [0.8, 0.1], [2.0, 0.0]])
    assert hypervolume(points, (1.0, 1.0)) == pytest.approx(0.3 * 0.2 + 0.3 * 0.5 + 0.2 * 0.9)
    assert hypervolume(points[-1:], (1.0, 1.0)) == hypervolume(np.empty((0, 2)), (1.0, 1.0)) == 0.0


@given(hnp.arrays(float, (5, 2), elements=st.floats(0, 1.2)))
def test_the_hypervolume_is_the_share_of_a_fine_grid(points: np.ndarray) -> None:
    centres = (np.arange(60) + 0.5) / 60
    cells = np.stack(np.meshgrid(centres, centres), axis=-1)[:, :, None]
    covered = (points <= cells).all(axis=-1).any(axis=-1).mean()
    assert hypervolume(points, (1.0, 1.0)) == pytest.approx(covered, abs=0.1)
