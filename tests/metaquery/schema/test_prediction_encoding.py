"""The encoding of probabilities: exact where it must be, within its bound elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from metaquery.metrics import auc
from metaquery.schema.predictions import (
    FLOOR,
    LEVELS,
    MAX_LOG_PROBABILITY_ERROR,
    MISSING,
    checkpoint_epochs,
    decode,
    encode,
)


@st.composite
def probabilities(draw: st.DrawFn) -> NDArray[np.floating]:
    """Rows that sum to 1: from barely trained to saturated, with ties and exact zeros, in both precisions."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(1, 30)), draw(st.integers(2, 9))
    logits = rng.normal(size=shape) * 10.0 ** draw(st.floats(-9.0, 2.0))
    logits[rng.random(shape) < 0.2] = 0.0
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (p / p.sum(axis=1, keepdims=True)).astype(draw(st.sampled_from([np.float32, np.float64])))


@settings(max_examples=300, deadline=None)
@given(probabilities())
def test_round_trip(p: NDArray[np.floating]) -> None:
    levels, step = encode(p)
    decoded = decode(levels, step)
    assert levels.dtype == np.uint16
    assert levels.max() <= LEVELS < MISSING
    assert np.array_equal(decoded.argmax(axis=1), p.argmax(axis=1))
    np.testing.assert_allclose(decoded.sum(axis=1), 1.0, atol=1e-12)
    above = p >= FLOOR * p.max(axis=1, keepdims=True)
    error = np.abs(np.log(decoded[above]) - np.log(p[above].astype(np.float64)))
    assert error.max() <= MAX_LOG_PROBABILITY_ERROR


def test_bound_is_not_loose() -> None:
    """Many classes moved off a tie with the most probable one, and one rounded down: a good part of the bound."""
    step = -math.log(FLOOR) / LEVELS
    distance = np.array([[0.01] * 20 + [0.0, 0.49], [0.0] + [LEVELS] * 21]) * step
    p = np.exp(-distance)
    p /= p.sum(axis=1, keepdims=True)
    error = np.abs(np.log(decode(*encode(p))) - np.log(p)).max()
    assert 0.8 * MAX_LOG_PROBABILITY_ERROR < error <= MAX_LOG_PROBABILITY_ERROR


def test_known_levels() -> None:
    p = np.array([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]])
    levels, step = encode(p)
    assert step == pytest.approx(math.log(3.0) / LEVELS)  # the largest distance to the most probable class
    expected = round(math.log(2.0) / step)
    assert levels.tolist() == [[0, expected, expected], [LEVELS, LEVELS, 0]]


def test_first_of_two_near_ties_stays_behind() -> None:
    """A class before the most probable one is moved off a tie that rounding would make."""
    p = np.array([[0.5 - 1e-7, 0.5 + 1e-7], [0.5, 0.5], [1e-5, 1.0 - 1e-5]])
    levels, _ = encode(p)
    assert levels[0].tolist() == [1, 0]
    assert levels[1].tolist() == [0, 0]


def test_barely_trained_model_keeps_its_ranks() -> None:
    """Eight plain bits of a probability would tie all of these."""
    score = 0.5 + np.arange(-50, 50) * 1e-8
    p = np.stack([1.0 - score, score], axis=1)
    labels = (np.arange(100) % 3 == 0).astype(np.int64)
    assert auc(labels, decode(*encode(p))) == auc(labels, p)


def test_below_the_floor() -> None:
    decoded = decode(*encode(np.array([[1.0, 0.0], [1.0 - 1e-12, 1e-12]])))
    assert decoded[:, 1] == pytest.approx([FLOOR, FLOOR])


def test_checkpoints_of_a_whole_trial() -> None:
    curve = [0.5] * 27
    curve[13] = curve[20] = 0.9
    assert checkpoint_epochs(curve) == {1: 1, 3: 3, 9: 9, 27: 27, "best": 14, "last": 27}


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([], {}),
        ([None], {1: 1, "best": 1, "last": 1}),
        ([None, 0.4, None, 0.3], {1: 1, 3: 3, "best": 2, "last": 4}),
        ([0.5, 0.5 + 1e-12], {1: 1, "best": 1, "last": 2}),  # one value in the single precision of curves
    ],
)
def test_checkpoints_of_a_short_trial(curve: list[float | None], expected: dict[int | str, int]) -> None:
    assert checkpoint_epochs(curve) == expected
