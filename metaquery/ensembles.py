"""Greedy ensembles of the trials of one dataset, over their stored predictions (Caruana et al., ICML 2004)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidInput, UnknownName
from metaquery.metrics import Labels, Metric, Probabilities
from metaquery.metrics import metric as metric_called
from metaquery.rescoring import known_checkpoints, selected
from metaquery.schema.predictions import SPLITS, Checkpoint
from metaquery.types import Split

if TYPE_CHECKING:
    from metaquery.corpus import Corpus


@dataclass(frozen=True)
class Ensemble:
    """A weighted mean of the probabilities of some trials, selected on validation data.

    `weights` are those of the trials, adding up to 1, the largest first; `single` is the trial that is best alone by
    validation. `val` and `test` are values of the metric in its own direction, of the ensemble and of that trial;
    `y_prob` the probabilities of the ensemble by split, (n, n_classes).
    """

    metric: Metric
    candidates: int
    weights: dict[str, float]
    val: float
    test: float
    single: str
    single_val: float
    single_test: float
    y_prob: dict[Split, Probabilities]

    def __str__(self) -> str:
        name = self.metric.name
        return (
            f"{len(self.weights)} of {self.candidates} trials: validation {name} {self.val:.4f}, test {self.test:.4f}; "
            f"the best alone, {self.single}: {self.single_val:.4f}, {self.single_test:.4f}"
        )


def greedy_selection(y_true: Labels, y_prob: NDArray[np.float64], metric: Metric, size: int) -> list[int]:
    """Which of m models go into the ensemble, with repetition, in the order they were taken.

    `y_true` is (n,), `y_prob` (m, n, n_classes). Each step takes the model with which the mean of all taken has the
    lowest loss, the first on ties, up to `size`; of the ensembles on that way the one with the lowest loss is
    returned, the smallest on ties. An undefined value counts as the worst.
    """
    total = np.zeros(y_prob.shape[1:])
    taken: list[int] = []
    losses: list[float] = []
    for count in range(1, size + 1):
        values = [_loss(metric, y_true, (total + p) / count) for p in y_prob]
        best = int(np.argmin(values))
        taken.append(best)
        losses.append(values[best])
        total += y_prob[best]
    return taken[: int(np.argmin(losses)) + 1]


def ensemble(
    corpus: Corpus,
    dataset: str,
    fold: int,
    metric: str | Metric | None,
    size: int,
    epoch: Checkpoint,
    trials: Sequence[str] | None,
) -> Ensemble:
    """See `Corpus.ensemble`."""
    if size < 1:
        raise InvalidInput(f"an ensemble needs a size of at least 1, got {size}")
    if dataset not in corpus.datasets:
        raise UnknownName.of("dataset", dataset, corpus.datasets)
    (checkpoint,) = known_checkpoints([epoch])
    used = metric if isinstance(metric, Metric) else metric_called(metric or corpus.default_metric)
    ids = [
        trial_id
        for trial_id, *part in selected(corpus, trials)
        if part == [dataset, fold] and checkpoint in corpus.checkpoints(trial_id)
    ]
    if not ids:
        raise InvalidInput(f"no trial of {dataset} fold {fold} has predictions at epoch {epoch!r}")
    truth, probabilities = {}, {}
    for split in SPLITS:
        found = [corpus.predictions(trial_id, split, checkpoint) for trial_id in ids]
        truth[split], probabilities[split] = found[0][0], np.stack([y_prob for _, y_prob in found])
    taken = greedy_selection(truth["val"], probabilities["val"], used, size)
    shares = np.bincount(taken, minlength=len(ids)) / len(taken)
    mixed: dict[Split, Probabilities] = {split: np.tensordot(shares, probabilities[split], axes=1) for split in SPLITS}
    single = taken[0]
    val, test = (used.function(truth[split], mixed[split]) for split in SPLITS)
    single_val, single_test = (used.function(truth[split], probabilities[split][single]) for split in SPLITS)
    members = sorted(np.flatnonzero(shares), key=lambda row: (-shares[row], row))
    weights = {ids[row]: float(shares[row]) for row in members}
    return Ensemble(used, len(ids), weights, val, test, ids[single], single_val, single_test, mixed)


def _loss(metric: Metric, y_true: Labels, y_prob: Probabilities) -> float:
    loss = metric.to_loss(metric.function(y_true, y_prob))
    return metric.worst_loss if math.isnan(loss) else loss
