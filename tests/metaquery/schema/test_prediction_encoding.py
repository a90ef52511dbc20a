"""The encoding of probabilities: exact where it must be, within its bounds elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from metaquery.metrics import METRICS
from metaquery.schema.prediction_encoding import EXACT, MAX_ERROR, PLANES, decode, encode, from_planes, to_planes
from metaquery.schema.predictions import checkpoint_epochs


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    p = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float32))
    return p / p.sum(axis=1, keepdims=True)


@st.composite
def predictions(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probabilities and labels, two classes or more: from barely trained to saturated, with ties and exact zeros."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, n_classes = draw(st.integers(1, 200)), draw(st.sampled_from([2, 2, 3, 9]))
    labels = rng.integers(0, n_classes, n)
    logits = rng.normal(size=(n, n_classes)) + draw(st.floats(0.0, 3.0)) * np.eye(n_classes)[labels]
    logits *= 10.0 ** draw(st.floats(-8.0, 2.0))
    if draw(st.booleans()):
        logits *= 10.0 ** rng.uniform(-3.0, 0.0, (n, 1))  # sure of some samples, undecided on others
    logits[rng.random((n, n_classes)) < draw(st.sampled_from([0.0, 0.2]))] = 0.0
    return softmax(logits), labels


@settings(max_examples=250, deadline=None)
@given(predictions())
def test_round_trip(drawn: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    p, labels = drawn
    encoded = encode(p, labels)
    decoded = decode(encoded)
    assert np.array_equal(decoded.argmax(axis=1), p.argmax(axis=1))
    np.testing.assert_allclose(decoded.sum(axis=1), 1.0, atol=1e-6)
    assert np.array_equal(decoded == 0.0, p == 0.0) or encoded.width < EXACT
    for name, bound in MAX_ERROR.items():
        exact, stored = (METRICS[name].function(labels, np.float64(values)) for values in (p, decoded))
        assert math.isnan(exact) == math.isnan(stored)
        assert math.isnan(exact) or abs(exact - stored) <= bound


def test_known_levels() -> None:
    p = np.array([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6], [1.0, 0.0, 0.0]], np.float32)
    levels, step, width = encode(p, np.array([0, 2, 0]))
    assert (width, levels.dtype) == (8, np.uint32)
    assert step == pytest.approx(math.log(3.0) / 254)  # the largest finite distance to the most probable class
    expected = round(math.log(2.0) / step)
    assert levels.tolist() == [[0, expected, expected], [254, 254, 0], [0, 255, 255]]


def test_ties_and_near_ties_keep_the_first_most_probable_class() -> None:
    """A class before the most probable one is moved off a tie that rounding would make; one behind it may join it."""
    low, high = np.float32(0.5) - np.float32(2**-24), np.float32(0.5) + np.float32(2**-23)
    p = np.array([[low, high], [0.5, 0.5], [high, low], [1e-5, 1.0 - 1e-5]], np.float32)
    encoded = encode(p, np.array([1, 0, 0, 1]))
    assert encoded.levels[:3].tolist() == [[1, 0], [0, 0], [0, 0]]
    assert decode(encoded).argmax(axis=1).tolist() == [1, 0, 0, 1]


def test_eight_bits_do_where_they_can_and_more_where_they_must() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1000)
    logits = rng.normal(size=(1000, 2)) + np.eye(2)[labels]
    assert encode(softmax(logits), labels).width == 8
    logits[0] = [60.0, 0.0]  # one sample that takes the whole range
    assert 8 < encode(softmax(logits), labels).width <= 16


def test_exact_where_no_width_does() -> None:
    """Ranks within the last places of barely trained samples, beside one that takes the whole range."""
    score = np.float32(0.5) + np.arange(40, dtype=np.float32) * np.float32(2**-22)
    p = np.stack([np.float32(1.0) - score, score], axis=1)
    p = np.concatenate([p, np.array([[1.0, 1e-38]], np.float32)])
    labels = np.append(np.arange(40) % 3 == 0, False).astype(np.int64)
    encoded = encode(p, labels)
    assert (encoded.width, encoded.step) == (EXACT, 0.0)
    assert np.array_equal(decode(encoded), p)


def test_saturated_models_keep_their_ranks() -> None:
    """Any fixed floor of probability would tie all of these."""
    p = np.stack([np.ones(90), 10.0 ** -np.linspace(9, 37, 90)], axis=1).astype(np.float32)
    labels = (np.arange(90) % 4 == 0).astype(np.int64)
    auc = METRICS["auc"].function
    assert abs(auc(labels, decode(encode(p, labels))) - auc(labels, p.astype(np.float64))) <= MAX_ERROR["auc"]


def test_one_class_among_the_labels_has_no_auc_to_keep() -> None:
    p = softmax(np.random.default_rng(1).normal(size=(5, 2)))
    assert encode(p, np.zeros(5, np.int64)).width < EXACT


def test_planes_are_the_bytes_lowest_first() -> None:
    levels = np.array([[[1, 0x01020304], [0, 0xFF00]]], np.uint32)  # one checkpoint, two samples, two classes
    planes = to_planes(levels)
    assert planes.shape == (PLANES, 1, 2, 2)
    assert planes[:, 0, 1, 0].tolist() == [4, 3, 2, 1]
    assert planes[:, 0, 1, 1].tolist() == [0, 0xFF, 0, 0]
    assert np.array_equal(from_planes(planes[:, 0]), levels[0])


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
