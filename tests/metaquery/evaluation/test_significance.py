"""Tests between optimizers and Elo ratings against scipy, published tables and values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import friedmanchisquare, ttest_1samp, wilcoxon

from metaquery.evaluation.measures.elo import elo, ratings, win_shares
from metaquery.evaluation.measures.significance import (
    corrected_resampled,
    critical_difference,
    friedman_p,
    groups,
    holm,
    holm_wilcoxon,
    nemenyi_distance,
    nemenyi_p,
)


@pytest.mark.parametrize("levels", [4, 1000])
def test_friedman_is_that_of_scipy_with_and_without_ties(levels: int) -> None:
    values = np.random.default_rng(levels).integers(0, levels, (4, 12)).astype(float)
    assert friedman_p(values) == pytest.approx(friedmanchisquare(*values).pvalue)


def test_friedman_sees_nothing_where_all_tie() -> None:
    assert friedman_p(np.ones((3, 5))) == 1.0


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (4, 2.569), (10, 3.164)])
def test_the_nemenyi_distance_is_that_of_the_published_table(k: int, q: float) -> None:
    # the critical values of Demšar (2006), table 5 (a)
    assert nemenyi_distance(k, 14) == pytest.approx(q * math.sqrt(k * (k + 1) / (6 * 14)), abs=1e-3)


def test_nemenyi_p_values_are_five_percent_at_the_critical_distance() -> None:
    values = np.random.default_rng(0).random((3, 20))
    values[2] += 0.5
    found = critical_difference(values)
    assert found is not None
    for i in range(3):
        for j in range(3):
            apart = abs(found.ranks[i] - found.ranks[j]) > found.critical_difference
            assert (nemenyi_p(values)[i, j] < 0.05) == apart
    assert found.nemenyi[0, 2] < 0.05 < found.nemenyi[0, 1]


def test_holm_steps_down() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])


def test_wilcoxon_is_that_of_scipy_and_corrected() -> None:
    values = np.random.default_rng(1).random((3, 9))
    raw = [wilcoxon(values[i] - values[j]).pvalue for i, j in ((0, 1), (0, 2), (1, 2))]
    found = holm_wilcoxon(values)
    np.testing.assert_allclose([found[0, 1], found[0, 2], found[1, 2]], holm(np.array(raw)))
    np.testing.assert_array_equal(found, found.T)


@given(hnp.arrays(float, (3, 5), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])))
def test_tests_survive_ties_and_zeros(values: np.ndarray) -> None:
    found = critical_difference(values)
    assert found is not None
    for p in (found.nemenyi, found.holm):
        assert ((p >= 0) & (p <= 1)).all()
        np.testing.assert_array_equal(np.diag(p), 1)
    assert 0 <= found.friedman <= 1


def test_groups_join_neighbours_that_do_not_differ() -> None:
    p = np.ones((4, 4))
    for i, j in ((0, 2), (0, 3), (1, 3)):  # 0-1, 1-2 and 2-3 are level, others differ
        p[i, j] = p[j, i] = 0.01
    ranks = np.array([1.0, 2.0, 3.0, 4.0])
    assert groups(ranks, p) == ((0, 1), (1, 2), (2, 3))
    assert groups(ranks[::-1], np.ones((4, 4))) == ((3, 2, 1, 0),)
    p[2, 3] = p[3, 2] = 0.01
    assert groups(ranks, p) == ((0, 1), (1, 2))


def test_one_dataset_or_one_optimizer_has_no_critical_difference() -> None:
    assert critical_difference(np.ones((3, 1))) is None
    assert critical_difference(np.ones((1, 3))) is None


def test_the_corrected_interval_is_students_without_shared_training_data() -> None:
    differences = np.random.default_rng(2).normal(0.3, 1, 8)
    expected = ttest_1samp(differences, 0)
    mean, low, high, p = corrected_resampled(differences, 0.0)
    assert (mean, p) == (pytest.approx(expected.statistic * differences.std(ddof=1) / math.sqrt(8)), expected.pvalue)
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval()))


def test_shared_training_data_widen_the_interval() -> None:
    differences = np.array([0.1, 0.3, 0.2, 0.4])
    _, low, high, _ = corrected_resampled(differences, 1 / 3)
    _, plain_low, plain_high, _ = corrected_resampled(differences, 0.0)
    assert high - low == pytest.approx((plain_high - plain_low) * math.sqrt((1 / 4 + 1 / 3) / (1 / 4)))
    assert corrected_resampled(np.full(4, 0.25), 0.5) == (0.25, 0.25, 0.25, 0.0)
    assert math.isnan(corrected_resampled(np.array([0.2]), 0.5)[1])


def test_wins_are_shares_of_paired_seeds() -> None:
    values = np.array([[[0.1, 0.2, 0.3, 0.4]], [[0.2, 0.2, 0.1, 0.5]]])
    np.testing.assert_allclose(win_shares(values), [[[0.5, 0.625], [0.375, 0.5]]])


def test_two_optimizers_have_the_ratings_of_their_odds() -> None:
    # 8.5 + 0.5 games won against 0.5 + 0.5, the drawn game included: odds of 9 to 1
    found = ratings(np.array([[0.0, 8.5], [0.5, 0.0]]))
    assert found.mean() == pytest.approx(1000)
    assert found[0] - found[1] == pytest.approx(400 * math.log10(9))


def test_ratings_maximise_the_likelihood() -> None:
    rng = np.random.default_rng(3)
    wins = rng.random((4, 4)) * 5
    drawn = wins + 0.5 * (1 - np.eye(4))

    def likelihood(scores: np.ndarray) -> float:
        chance = 1 / (1 + 10 ** ((scores[None] - scores[:, None]) / 400))
        return float((drawn * np.log(chance) * (1 - np.eye(4))).sum())

    found = ratings(wins)
    for step in np.eye(4):
        assert likelihood(found) > max(likelihood(found + step), likelihood(found - step))


def test_every_dataset_is_one_game_whatever_the_margin() -> None:
    values = np.array([[[0.0, 0.0], [0.2, 0.2], [0.2, 0.2]], [[0.9, 0.9], [0.1, 0.1], [0.1, 0.1]]])
    rating, low, high = elo(values)
    assert rating[1] > rating[0]  # two datasets to one
    assert (low <= rating).all()
    assert (rating <= high).all()
    assert np.isnan(elo(values[:, :1])[1]).all()
