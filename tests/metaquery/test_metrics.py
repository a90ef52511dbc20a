"""The metrics against scikit-learn, by hand, and at their edges."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk

from metaquery.errors import InvalidInput, UnknownName
from metaquery.metrics import METRICS, compute_all, metric
from metaquery.schema import table
from metaquery.schema.predictions import SPLITS


@st.composite
def predicted(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and probabilities with many ties, and sometimes without a sample of some class."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, c = draw(st.integers(1, 60)), draw(st.integers(2, 6))
    weights = rng.integers(1, draw(st.integers(2, 50)), size=(n, c)).astype(np.float64)
    return rng.integers(0, draw(st.integers(1, c)), size=n), weights / weights.sum(axis=1, keepdims=True)


@settings(max_examples=200, deadline=None)
@given(predicted())
def test_against_scikit_learn(data: tuple[NDArray[np.int64], NDArray[np.float64]]) -> None:
    y, p = data
    n_classes = p.shape[1]
    found = compute_all(y, p)
    hard = p.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, hard))
    assert found["loss"] == pytest.approx(sk.log_loss(y, p, labels=range(n_classes)))
    with warnings.catch_warnings():  # scikit-learn warns where a class or a prediction is missing
        warnings.simplefilter("ignore")
        assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y, hard))
        assert found["f1"] == pytest.approx(sk.f1_score(y, hard, average="macro"))
    present = [c for c in ([1] if n_classes == 2 else range(n_classes)) if 0 < np.sum(y == c) < len(y)]
    areas = [sk.roc_auc_score(y == c, p[:, c]) for c in present]
    assert found["auc"] == pytest.approx(np.mean(areas) if areas else math.nan, nan_ok=True)
    for name, value in found.items():
        assert math.isnan(value) or METRICS[name].lower <= value <= METRICS[name].upper + 1e-12


@settings(max_examples=50, deadline=None)
@given(predicted())
def test_calibration_error_is_the_sum_over_bins(data: tuple[NDArray[np.int64], NDArray[np.float64]]) -> None:
    y, p = data
    confidence, hit = p.max(axis=1), p.argmax(axis=1) == y
    expected = 0.0
    for k in range(15):  # bins (k/15, (k+1)/15], as in the paper
        inside = [i for i in range(len(y)) if math.ceil(confidence[i] * 15) - 1 == k]
        if inside:
            expected += len(inside) / len(y) * abs(np.mean(hit[inside]) - np.mean(confidence[inside]))
    assert METRICS["ece"].function(y, p) == pytest.approx(expected)


def test_by_hand() -> None:
    y = np.array([0, 0, 1, 1])
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.2, 0.8]])
    found = compute_all(y, p)
    assert found["auc"] == 3.5 / 4  # of four pairs three in order, one tied
    assert found["accuracy"] == 0.75
    assert found["balanced_accuracy"] == 0.75
    assert found["f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found["loss"] == pytest.approx(-np.log([0.9, 0.4, 0.6, 0.8]).mean())
    # bins of confidence: 0.9 (right), twice 0.6 (one right), 0.8 (right)
    assert found["ece"] == pytest.approx((0.1 + abs(1 - 1.2) + 0.2) / 4)


def test_one_class_has_no_auc() -> None:
    assert math.isnan(compute_all(np.zeros(3, np.int64), np.full((3, 2), 0.5))["auc"])


def test_loss_is_bounded() -> None:
    p = np.array([[1.0, 0.0]])
    assert compute_all(np.array([1]), p)["loss"] == pytest.approx(METRICS["loss"].upper)
    assert compute_all(np.array([0]), p)["loss"] == 0.0


@pytest.mark.parametrize("name", sorted(METRICS))
def test_losses_point_down(name: str) -> None:
    m = METRICS[name]
    best, worst = (m.upper, m.lower) if m.direction == "maximize" else (m.lower, m.upper)
    assert m.to_loss(best) == 0.0
    assert m.to_loss(worst) == m.worst_loss > 0.0
    for value in np.linspace(m.lower, m.upper, 7):
        assert m.from_loss(m.to_loss(value)) == pytest.approx(value)
        assert 0.0 <= m.to_loss(value) <= m.worst_loss


def test_every_metric_is_a_column_of_curves() -> None:
    columns = {column.name for column in table("curves").columns}
    assert {f"{split}_{name}" for split in SPLITS for name in METRICS} <= columns
    assert len([name for name in columns if name.startswith(("val_", "test_"))]) == 2 * len(METRICS)


def test_unknown_metric() -> None:
    with pytest.raises(UnknownName, match="unknown metric 'acuracy': did you mean accuracy"):
        metric("acuracy")


@pytest.mark.parametrize(("labels", "shape"), [([], (0, 2)), ([0], (2, 2)), ([[0]], (1, 2)), ([0], (2,))])
def test_wrong_shapes(labels: list[int], shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"labels \(n,\) and probabilities \(n, n_classes\)"):
        compute_all(np.array(labels, np.int64), np.ones(shape))
