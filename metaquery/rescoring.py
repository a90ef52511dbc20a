"""Metrics that no curve holds, temperature scaling and other scores, all from stored predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidInput, UnknownName
from metaquery.metrics import METRICS, Labels, Metric, Probabilities
from metaquery.result import Result
from metaquery.schema.predictions import CHECKPOINTS, SPLITS, Checkpoint

if TYPE_CHECKING:
    from metaquery.corpus import Corpus

Score = Callable[[Labels, Probabilities], float]

HOTTEST = 100.0
"""The range of fitted temperatures is 1 / HOTTEST to HOTTEST: without a mistake in the validation data there is no
optimum."""

_LEAST = float(np.finfo(np.float32).tiny)  # stands for a probability of 0 in a logarithm


def brier(y_true: Labels, y_prob: Probabilities) -> float:
    """Mean squared distance between the probabilities and the true class, summed over classes (Brier, 1950): 0 to 2."""
    return float(((y_prob - np.eye(y_prob.shape[1])[y_true]) ** 2).sum(axis=1).mean())


def mcc(y_true: Labels, y_prob: Probabilities) -> float:
    """Correlation of true and most probable class, -1 to 1, for any number of classes (Gorodkin, 2004).

    0 where one of the two is constant.
    """
    classes = np.eye(y_prob.shape[1])
    true, predicted = (values - values.mean(axis=0) for values in (classes[y_true], classes[y_prob.argmax(axis=1)]))
    spread = math.sqrt(float((true**2).sum() * (predicted**2).sum()))
    return float((true * predicted).sum()) / spread if spread > 0.0 else 0.0


SCORES: dict[str, Score] = {**{name: metric.function for name, metric in METRICS.items()}, "brier": brier, "mcc": mcc}


def rescore(
    corpus: Corpus, metric: str | Metric | Score, trials: Sequence[str] | None, epochs: Sequence[Checkpoint]
) -> Result:
    """See `Corpus.rescore`."""
    name, score = _score(metric)
    rows = []
    for trial_id, dataset, fold in selected(corpus, trials):
        reached = corpus.checkpoints(trial_id)
        for checkpoint in known_checkpoints(epochs):
            for split in SPLITS if checkpoint in reached else ():
                value = _number(name, score(*corpus.predictions(trial_id, split, checkpoint)))
                rows.append((trial_id, dataset, fold, str(checkpoint), reached[checkpoint], split, value))
    return _result(rows, ("trial_id", "dataset", "fold", "checkpoint", "epoch", "split", name))


def temperature(y_true: Labels, y_prob: Probabilities) -> float:
    """The temperature that minimises the log-loss of `scaled` probabilities (Guo et al., ICML 2017).

    `y_true` is (n,), `y_prob` (n, n_classes). The loss is convex in 1 / temperature: its slope is bisected.
    """
    logits = np.log(np.maximum(y_prob, _LEAST))
    logits -= logits[np.arange(len(y_true)), y_true][:, None]
    low, high = -math.log(HOTTEST), math.log(HOTTEST)
    for _ in range(60):
        middle = (low + high) / 2.0
        weights = _softmax(logits * math.exp(middle))
        if float((weights * logits).sum()) > 0.0:  # the true classes are less probable than expected: hotter
            high = middle
        else:
            low = middle
    return math.exp(-(low + high) / 2.0)


def scaled(y_prob: Probabilities, temperature: float) -> Probabilities:
    """`y_prob`, (n, n_classes), with log-probabilities divided by `temperature`, rows summing to 1."""
    return _softmax(np.log(np.maximum(y_prob, _LEAST)) / temperature)


def calibrate(corpus: Corpus, trials: Sequence[str] | None, epoch: Checkpoint) -> Result:
    """See `Corpus.calibrate`."""
    (checkpoint,) = known_checkpoints([epoch])
    rows = []
    for trial_id, *_ in selected(corpus, trials):
        if checkpoint in corpus.checkpoints(trial_id):
            fitted = temperature(*corpus.predictions(trial_id, "val", checkpoint))
            y_true, y_prob = corpus.predictions(trial_id, "test", checkpoint)
            both = (y_prob, scaled(y_prob, fitted))
            scores = (METRICS[name].function(y_true, p) for name in ("loss", "ece") for p in both)
            rows.append((trial_id, fitted, *scores))
    return _result(rows, ("trial_id", "temperature", "test_loss", "scaled_test_loss", "test_ece", "scaled_test_ece"))


def selected(corpus: Corpus, trials: Sequence[str] | None) -> Iterator[tuple[str, str, int]]:
    """Id, dataset and fold of `trials`, or of all trials with an epoch in the order of the table."""
    if isinstance(trials, str):
        raise InvalidInput(f"expected a list of trial ids, got the text {trials!r}")
    columns = corpus.table("trials", ["trial_id", "dataset", "fold", "epochs_run"]).columns
    rows = list(zip(*(column.to_pylist() for column in columns), strict=True))
    known = {trial_id: (trial_id, dataset, fold) for trial_id, dataset, fold, _ in rows}
    for trial_id in [row[0] for row in rows if row[3]] if trials is None else trials:
        if trial_id not in known:
            raise UnknownName(f"unknown trial {trial_id!r}: expected trial ids of the table trials")
        yield known[trial_id]


def known_checkpoints(epochs: Sequence[Checkpoint]) -> list[Checkpoint]:
    """`epochs`, each of which must be one whose predictions are stored."""
    for epoch in epochs:
        if epoch not in CHECKPOINTS or isinstance(epoch, bool):
            expected = ", ".join(map(repr, CHECKPOINTS))
            raise InvalidInput(f"predictions at epoch {epoch!r} are not stored: expected one of {expected}")
    return list(epochs)


def _score(metric: str | Metric | Score) -> tuple[str, Score]:
    if isinstance(metric, Metric):
        return metric.name, metric.function
    if isinstance(metric, str):
        if metric not in SCORES:
            raise UnknownName.of("metric", metric, SCORES, hint="or give a function of (y_true, y_prob)")
        return metric, SCORES[metric]
    if not callable(metric):
        raise InvalidInput(f"metric must be a name or a function of (y_true, y_prob), got {metric!r}")
    name = getattr(metric, "__name__", "value")
    return name if name.isidentifier() else "value", metric  # a lambda has no name


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InvalidInput(f"the metric {name} must return one number, got {type(value).__name__}") from None


def _result(rows: Sequence[tuple[Any, ...]], names: Sequence[str]) -> Result:
    import pyarrow as pa

    kinds = dict.fromkeys(("trial_id", "dataset", "checkpoint", "split"), pa.string())
    kinds |= dict.fromkeys(("fold", "epoch"), pa.int32())
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    arrays = [pa.array(column, kinds.get(name, pa.float64())) for name, column in zip(names, columns, strict=True)]
    return Result(pa.table(arrays, names=list(names)))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return result
