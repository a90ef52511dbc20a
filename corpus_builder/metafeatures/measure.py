"""Measuring every registered descriptor on a training part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from time import process_time
from typing import Any

import numpy as np

from corpus_builder.metafeatures.descriptor import Undefined
from corpus_builder.metafeatures.part import TrainingPart
from corpus_builder.metafeatures.registry import DESCRIPTORS
from corpus_builder.metafeatures.scores import FOLDS


@dataclass(frozen=True, slots=True)
class Measurement:
    """`rows` of name, value and seconds, in the order of the registry; `reasons` of the values that are None, by name.

    A value is None where the descriptor is not defined for the part, or where what it needs is not here.
    """

    rows: list[dict[str, Any]]
    reasons: dict[str, str]


def measure(part: TrainingPart) -> Measurement:
    """Every descriptor of `part`.

    Values do not depend on the order of the samples, not even in the last bit. Seconds are the CPU time of one thread,
    which is what the clock would show on an idle core. Work that several descriptors share is charged to the first of
    them, so they add up to the time that was spent.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        _warm_up()
        return _measure(part)


def _measure(part: TrainingPart) -> Measurement:
    rows: list[dict[str, Any]] = []
    reasons: dict[str, str] = {}
    for descriptor in DESCRIPTORS.values():
        start = process_time()
        value = None
        try:
            value = float(descriptor.function(part))
        except Undefined as reason:
            reasons[descriptor.name] = str(reason)
        rows.append({"name": descriptor.name, "value": value, "seconds": process_time() - start})
    return Measurement(rows, reasons)


def undefined_notes(measured: Iterable[tuple[str, Measurement]]) -> list[str]:
    """One line for each reason why descriptors of datasets, given by name, have no value."""
    names: dict[str, dict[str, None]] = {}  # dictionaries keep the order and drop repetitions
    datasets: dict[str, dict[str, None]] = {}
    for dataset, measurement in measured:
        for name, reason in measurement.reasons.items():
            names.setdefault(reason, {})[name] = None
            datasets.setdefault(reason, {})[dataset] = None
    return [
        f"{len(names[reason])} meta-features from {next(iter(names[reason]))} on are null for "
        f"{', '.join(datasets[reason])}: {reason}"
        for reason in names
    ]


@cache
def _warm_up() -> None:
    """Measure a made-up part, so that imports and first calls are in nobody's seconds."""
    numbers = np.arange(2 * FOLDS)
    images = (numbers[:, None] * np.arange(64) % 251).astype(np.uint8).reshape(-1, 1, 8, 8)
    _measure(TrainingPart(images, numbers % 2, numbers.astype(np.str_)))
