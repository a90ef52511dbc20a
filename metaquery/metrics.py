"""Classification metrics: one record each, with its direction, bounds and function.

Values to optimise are losses inside the packages; `Metric.to_loss` and `Metric.from_loss` are the only places
where a direction is applied. All functions take `y_true`, integer labels of shape (n,), and `y_prob`, class
probabilities of shape (n, n_classes), and return a float, NaN where the metric is not defined.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidInput, UnknownName

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]
_Values = TypeVar("_Values", float, NDArray[np.float64])

_EPSILON = 1e-7  # probabilities are clipped here before a logarithm, which bounds the loss


def log_loss(y_true: Labels, y_prob: Probabilities) -> float:
    """Mean negative log-probability of the true class, in nats; probabilities are clipped to [1e-7, 1]."""
    p_true = y_prob[np.arange(len(y_true)), y_true]
    return float(-np.log(np.clip(p_true, _EPSILON, 1.0)).mean())


def auc(y_true: Labels, y_prob: Probabilities) -> float:
    """Area under the ROC curve: of class 1 for two classes, else the mean over classes of one against the rest.

    Computed from mid-ranks (Mann-Whitney U). Classes without a positive or without a negative are left out of
    the mean; NaN when none is left.
    """
    n, n_classes = y_prob.shape
    classes = np.array([1]) if n_classes == 2 else np.arange(n_classes)
    scores = y_prob[:, classes]
    order = scores.argsort(axis=0)
    ranked = np.take_along_axis(scores, order, axis=0)
    edges = np.ones((n + 1, len(classes)), np.bool_)  # between a score and the next one that is larger
    edges[1:-1] = ranked[1:] > ranked[:-1]
    places = np.arange(n)[:, None]
    first = np.maximum.accumulate(np.where(edges[:-1], places, 0), axis=0)
    last = np.minimum.accumulate(np.where(edges[1:], places, n)[::-1], axis=0)[::-1]
    positive = y_true[order] == classes
    n_positive = positive.sum(axis=0)
    n_pairs = n_positive * (n - n_positive)
    rank_sum = (positive * ((first + last) / 2.0 + 1.0)).sum(axis=0)
    defined = n_pairs > 0
    if not defined.any():
        return math.nan
    below = rank_sum - n_positive * (n_positive + 1) / 2.0
    return float(np.mean(below[defined] / n_pairs[defined]))


def accuracy(y_true: Labels, y_prob: Probabilities) -> float:
    """Share of samples whose most probable class is the true one."""
    return float((y_prob.argmax(axis=1) == y_true).mean())


def balanced_accuracy(y_true: Labels, y_prob: Probabilities) -> float:
    """Mean recall over the classes that occur in `y_true`."""
    hit = y_prob.argmax(axis=1) == y_true
    return float(np.mean([hit[y_true == c].mean() for c in np.unique(y_true)]))


def f1(y_true: Labels, y_prob: Probabilities) -> float:
    """Macro F1 over the classes that are true or predicted for at least one sample."""
    predicted = y_prob.argmax(axis=1)
    scores = []
    for c in np.union1d(y_true, predicted):
        true_positive = np.sum((predicted == c) & (y_true == c))
        scores.append(2.0 * true_positive / (np.sum(predicted == c) + np.sum(y_true == c)))
    return float(np.mean(scores))


def expected_calibration_error(y_true: Labels, y_prob: Probabilities) -> float:
    """Gap between confidence and accuracy over 15 equal-width bins of confidence (Guo et al., ICML 2017)."""
    confidence = y_prob.max(axis=1)
    hit = y_prob.argmax(axis=1) == y_true
    bins = np.clip(np.ceil(confidence * 15).astype(np.int64) - 1, 0, 14)
    gap = np.bincount(bins, weights=hit, minlength=15) - np.bincount(bins, weights=confidence, minlength=15)
    return float(np.abs(gap).sum() / len(y_true))


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its direction and bounds; `function(y_true, y_prob)` gives its value.

    Values of a `logarithmic` one differ by orders of magnitude: models learn its logarithm.
    """

    name: str
    direction: Literal["maximize", "minimize"]
    lower: float
    upper: float
    function: Callable[[Labels, Probabilities], float]
    logarithmic: bool = False

    def to_loss(self, value: _Values) -> _Values:
        """Loss to minimise: the distance from the metric's best possible value."""
        return self.upper - value if self.direction == "maximize" else value - self.lower

    def from_loss(self, loss: float) -> float:
        """Value in the metric's own direction; the inverse of `to_loss`."""
        return self.upper - loss if self.direction == "maximize" else self.lower + loss

    @property
    def worst_loss(self) -> float:
        """The largest loss the metric can have; what a failed trial counts as where a number is needed."""
        return self.upper - self.lower


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("loss", "minimize", 0.0, -math.log(_EPSILON), log_loss, logarithmic=True),
        Metric("auc", "maximize", 0.0, 1.0, auc),
        Metric("accuracy", "maximize", 0.0, 1.0, accuracy),
        Metric("balanced_accuracy", "maximize", 0.0, 1.0, balanced_accuracy),
        Metric("f1", "maximize", 0.0, 1.0, f1),
        Metric("ece", "minimize", 0.0, 1.0, expected_calibration_error),
    )
}


def metric(name: str) -> Metric:
    """The metric called `name`."""
    try:
        return METRICS[name]
    except KeyError:
        raise UnknownName.of("metric", name, METRICS) from None


def compute_all(y_true: Labels, y_prob: Probabilities) -> dict[str, float]:
    """Every metric by name. `y_true`: (n,) integers below n_classes; `y_prob`: (n, n_classes)."""
    if y_prob.ndim != 2 or y_true.shape != y_prob.shape[:1] or len(y_true) == 0:
        raise InvalidInput(
            "metrics need labels (n,) and probabilities (n, n_classes) with n > 0, "
            f"got {y_true.shape} and {y_prob.shape}"
        )
    return {name: m.function(y_true, y_prob) for name, m in METRICS.items()}
