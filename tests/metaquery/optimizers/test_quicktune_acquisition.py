"""Expected improvement, and what it improves on."""

from __future__ import annotations

import numpy as np
import pytest

from metaquery.optimizers.quicktune.acquisition import best_at, expected_improvement


@pytest.mark.parametrize(("mean", "deviation", "best"), [(0.3, 0.1, 0.25), (0.2, 0.05, 0.4), (-1.0, 2.0, 0.0)])
def test_expected_improvement_is_the_mean_of_the_improvements(mean: float, deviation: float, best: float) -> None:
    losses = np.linspace(mean - 12 * deviation, mean + 12 * deviation, 200_001)
    density = np.exp(-0.5 * ((losses - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
    by_integration = (np.maximum(best - losses, 0.0) * density).sum() * (losses[1] - losses[0])
    value = expected_improvement(np.array([mean]), np.array([deviation]), np.array([best]))
    assert value[0] == pytest.approx(by_integration, rel=1e-6)


def test_expected_improvement_at_its_limits() -> None:
    value = expected_improvement(np.array([0.1, 0.9, 0.9]), np.full(3, 1e-6), np.array([0.3, 0.3, 0.9]))
    assert value == pytest.approx([0.2, 0.0, 1e-6 / np.sqrt(2 * np.pi)])
    assert (value >= 0.0).all()


def test_the_best_at_an_epoch_is_seen_there_or_earlier() -> None:
    nan = np.nan
    losses = np.array([[0.5, 0.4, nan, nan, 0.2], [0.3, 0.45, nan, nan, nan]])
    assert best_at(losses, np.array([1, 2, 3, 4, 5, 1])).tolist() == [0.3, 0.4, 0.3, 0.3, 0.2, 0.3]
    late = np.array([[nan, nan, 0.6]])
    assert best_at(late, np.array([1, 3])).tolist() == [0.6, 0.6]
