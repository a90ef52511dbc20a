"""Deviations of repeats, and the best of equally many trials, against values computed by hand."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaquery.diagnostics.fair import choice, compare
from metaquery.diagnostics.variance import beyond_columns, told_apart, within


class TestNoise:
    def test_deviations_are_pooled_by_their_degrees_of_freedom(self) -> None:
        groups = [np.array([1.0, 3.0]), np.array([0.0, 0.0, 6.0]), np.array([9.0]), np.full(3, 2.0)]
        found = within(groups)
        assert found.deviation == pytest.approx(math.sqrt((2 + 24 + 0 + 0) / 5))
        assert found.degrees == 5
        assert found.low == pytest.approx(math.sqrt(26 / 12.8325), rel=1e-5)  # quantiles of a printed table
        assert found.high == pytest.approx(math.sqrt(26 / 0.831212), rel=1e-5)

    def test_too_few_repeats_are_counted_and_tell_nothing(self) -> None:
        found = within([np.array([1.0, 3.0]), np.array([9.0])])
        assert found.degrees == 1
        assert math.isnan(found.deviation)
        assert within([]).degrees == 0

    def test_what_a_fold_does_to_all_configs_alike_is_taken_out(self) -> None:
        configs, folds = np.repeat(np.arange(4), 3), np.tile(np.arange(3), 4)
        common = 10.0 * configs + np.array([0.0, 5.0, -3.0])[folds]
        own = np.zeros(12)
        own[[0, 4]], own[[1, 3]] = 1.0, -1.0  # (1, -1, 0) for the first config, (-1, 1, 0) for the second
        found = beyond_columns(common + own, configs.tolist(), folds.tolist())
        assert (found.deviation, found.degrees) == (pytest.approx(math.sqrt(4 / 6)), 6)
        gap = beyond_columns(common[:-1], configs[:-1].tolist(), folds[:-1].tolist())
        assert (gap.deviation, gap.degrees) == (pytest.approx(0, abs=1e-9), 5)
        assert beyond_columns(np.empty(0), [], []).degrees == 0

    def test_pairs_further_apart_than_noise(self) -> None:
        scores = np.array([0.0, 1.0, 3.0])
        assert told_apart(scores, 0.5) == pytest.approx(2 / 3)  # 1 is less than 1.96 * sqrt(2) * 0.5 = 1.39
        assert told_apart(scores, 0.0) == 1
        assert math.isnan(told_apart(scores, math.nan))


class TestChoice:
    def test_the_best_of_so_many(self) -> None:
        assert choice(np.array([3.0, 1.0, 2.0]), 2) == pytest.approx([2 / 3, 0, 1 / 3])
        assert choice(np.array([2.0, 1.0, 2.0]), 2) == pytest.approx([1 / 2, 0, 1 / 2])  # equals share
        assert choice(np.array([3.0, 1.0, 2.0]), 1) == pytest.approx([1 / 3] * 3)
        assert choice(np.array([3.0, 1.0, 2.0]), 3) == pytest.approx([1, 0, 0])

    @given(st.lists(st.integers(0, 3), min_size=1, max_size=7), st.data())
    def test_it_is_what_all_subsets_give(self, values: list[int], data: st.DataObject) -> None:
        drawn = data.draw(st.integers(1, len(values)))
        expected = np.zeros(len(values))
        subsets = list(combinations(range(len(values)), drawn))
        for subset in subsets:
            best = [i for i in subset if values[i] == max(values[j] for j in subset)]
            expected[best] += 1 / len(best) / len(subsets)
        assert choice(np.array(values, dtype=float), drawn) == pytest.approx(expected)

    def test_sides_are_compared_after_the_same_number_of_trials(self) -> None:
        validation = (np.array([3.0, 1.0, 0.0]), np.array([1.0, 2.0]))
        test = (np.array([0.9, 0.5, 0.1]), np.array([0.4, 0.5]))
        found = compare(validation, test, 2)
        assert found.first == pytest.approx(2 / 3 * 0.9 + 1 / 3 * 0.5)
        assert found.second == 0.5
        assert found.ahead == pytest.approx(2 / 3 + 1 / 3 * 0.5)
        one = compare(validation, test, 1)
        assert one.ahead == pytest.approx((2 + 1.5) / 6)  # 0.9 beats both, 0.5 one and a half, 0.1 none
