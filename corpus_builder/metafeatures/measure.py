"""Measuring every registered descriptor on a training part."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus_builder.metafeatures.descriptors import DESCRIPTORS
from corpus_builder.metafeatures.part import TrainingPart
from metaquery.errors import InvalidInput


def measure(images: NDArray[np.uint8], labels: NDArray[np.int64], n_groups: int) -> list[dict[str, Any]]:
    """Name, value and seconds of every descriptor of a training part, in the order of the registry.

    `images` is (n, channels, *spatial) uint8 and `labels` (n,) int64, of the training part only; `n_groups` is its
    number of groups. Values do not depend on the order of the samples, not even in the last bit. Work that several
    descriptors share is charged to the first of them, so the seconds add up to the time that was spent.
    """
    if len(images) == 0 or len(images) != len(labels):
        raise InvalidInput(
            f"expected images and as many labels, at least one, got {len(images)} images and {len(labels)} labels"
        )
    part = TrainingPart(images, labels, n_groups)
    rows = []
    for name, descriptor in DESCRIPTORS.items():
        start = perf_counter()
        value = float(descriptor(part))
        rows.append({"name": name, "value": value, "seconds": perf_counter() - start})
    return rows
