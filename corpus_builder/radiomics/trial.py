"""One trial of a classical member: features, one fit, one record."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from corpus_builder.backbones.spec import ClassicalSpec
from corpus_builder.radiomics.features import extract
from corpus_builder.radiomics.model import fit
from corpus_builder.train.device import Clock, device_name, is_out_of_memory, resolve_device
from corpus_builder.train.evaluate import evaluate
from corpus_builder.train.records import Part, TrialData, TrialResult, TrialSpec, error_line
from metaquery.errors import InvalidData
from metaquery.metrics import log_loss
from metaquery.schema.predictions import checkpoint_epochs
from metaquery.types import Split, Status


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """The feature table of a part, (n, n_features), and the CPU seconds that it took."""

    table: NDArray[np.float64]
    seconds: float


@lru_cache(maxsize=12)
def part_features(part: Part) -> Features:
    """The features of `part`, measured once: the trials that share a part are all charged the same seconds for it."""
    _extract(part, 1)  # imports and first calls are nobody's cost
    clock = Clock(resolve_device("cpu"))
    return Features(_extract(part, len(part.labels)), clock.elapsed())


def _extract(part: Part, n: int) -> NDArray[np.float64]:
    """The features of the first `n` samples."""
    masks = None if part.masks is None else part.masks[:n]
    spacing = None if part.spacing is None else part.spacing[:n]
    return extract(part.images[:n], masks, spacing)


def run_classical_trial(spec: TrialSpec, data: TrialData, member: ClassicalSpec) -> TrialResult:
    """Fit and evaluate `spec` on `data`, on one thread of the CPU whatever device the run is for.

    The result has one epoch, the last of `spec.epochs`: its `train_seconds` hold the features of the training part and
    the fit, its `eval_seconds` the features of the two other parts and their predictions. Whatever happens becomes the
    result's status, never an exception. There is no epoch to stop after, so that a time limit does not apply.
    """
    cpu = resolve_device("cpu")
    result = TrialResult(device=device_name(cpu), precision="float64")
    clock, charged = Clock(cpu), 0.0
    try:
        with threadpool_limits(1):
            train, val, test = (part_features(part) for part in (data.train, data.val, data.test))
            charged = train.seconds + val.seconds + test.seconds
            clock = Clock(cpu)
            _fit(spec, data, member, (train, val, test), result)
    except Exception as error:
        result.status = Status.OUT_OF_MEMORY if is_out_of_memory(error) else Status.FAILED
        result.error = error_line(error)
    result.total_seconds = clock.elapsed() + charged
    return result


def _fit(
    spec: TrialSpec,
    data: TrialData,
    member: ClassicalSpec,
    features: tuple[Features, Features, Features],
    result: TrialResult,
) -> None:
    train, val, test = features
    present = len(np.unique(data.train.labels))
    if present < data.n_classes:
        raise InvalidData(f"expected training samples of all {data.n_classes} classes, got {present} of them")
    clock = Clock(resolve_device("cpu"))
    model = fit(train.table, data.train.labels, member.classifier, spec.config, spec.seed)
    fitted = clock.elapsed()
    probabilities: dict[Split, NDArray[np.float32]] = {
        "val": model.predict_proba(val.table).astype(np.float32),
        "test": model.predict_proba(test.table).astype(np.float32),
    }
    metrics = evaluate(data.val.labels, probabilities["val"], "val")
    metrics |= evaluate(data.test.labels, probabilities["test"], "test")
    evaluated = clock.elapsed()
    result.epochs.append(
        {
            "epoch": spec.epochs,
            "learning_rate": None,
            "train_loss": log_loss(data.train.labels, model.predict_proba(train.table)),
            **metrics,
            "train_seconds": train.seconds + fitted,
            "eval_seconds": val.seconds + test.seconds + evaluated - fitted,
        }
    )
    kept = checkpoint_epochs([metrics["val_auc"]], [spec.epochs])
    result.predictions = dict.fromkeys(kept, probabilities)
    result.status = Status.COMPLETED
