"""The training part of a dataset and the summaries that several descriptors share, all free of the samples' order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from corpus_builder.datasets import PreparedDataset
from metaquery.errors import InvalidInput

_SUBSET_SAMPLES = 256
_SUBSET_VALUES = 2**25
_CHUNK_VALUES = 2**24

Summary = TypeVar("Summary")


@dataclass(frozen=True, eq=False)
class TrainingPart:
    """`images` (n, channels, *spatial) uint8, `labels` (n,) int64, `groups` (n,) of strings, at least one sample.

    `spacing`, (n, n_dims) in millimetres, is None where the dataset does not tell; `weights_root` is where
    pretrained probes find their weights.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    spacing: NDArray[np.float64] | None = None
    weights_root: Path | None = None
    _summaries: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Raise InvalidInput where the arrays are not of the same samples, or of none."""
        if len(self.images) == 0 or not len(self.images) == len(self.labels) == len(self.groups):
            raise InvalidInput(
                f"expected images and as many labels and groups, at least one, got {len(self.images)} images, "
                f"{len(self.labels)} labels and {len(self.groups)} groups"
            )

    @classmethod
    def of(cls, data: PreparedDataset, roles: NDArray[np.str_], weights_root: Path | None) -> TrainingPart:
        """The samples of `data` whose role, (n,), is `train`."""
        train = roles == "train"
        spacing = None if data.spacing is None else data.spacing[train]
        return cls(data.images[train], data.labels[train], data.groups[train], spacing, weights_root)

    def shared(self, summary: Callable[..., Summary], *arguments: Hashable) -> Summary:
        """What `summary` gives for this part and `arguments`, computed once."""
        key = (summary, *arguments)
        if key not in self._summaries:
            self._summaries[key] = summary(self, *arguments)
        found: Summary = self._summaries[key]
        return found

    @cached_property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(np.unique(self.groups))

    @cached_property
    def class_shares(self) -> NDArray[np.float64]:
        """Share of each class that occurs, (classes,)."""
        counts = np.bincount(self.labels)
        return counts[counts > 0] / len(self.labels)

    @cached_property
    def histogram(self) -> NDArray[np.int64]:
        """How often each of the 256 intensities occurs, over all samples, channels and positions."""
        counts = np.zeros(256, dtype=np.int64)
        for chunk in self._chunks():
            counts += np.bincount(chunk.reshape(-1), minlength=256)
        return counts

    @cached_property
    def squared_differences(self) -> tuple[int, int]:
        """Sum of squared differences between neighbours along every spatial axis, and their number."""
        total = count = 0
        for chunk in self._chunks():
            for axis in range(2, chunk.ndim):
                difference = np.diff(chunk.astype(np.int32), axis=axis)
                total += int(np.sum(difference**2, dtype=np.int64))
                count += difference.size
        return total, count

    @cached_property
    def ranked(self) -> NDArray[np.intp]:
        """The samples by the SHA-256 of their image, then label, then group, (n,).

        A beginning of it is as good as a random subset, and knows nothing of the order in which the samples came.
        """
        digests = [hashlib.sha256(image.tobytes()).digest() for image in self.images]
        keys = list(zip(digests, self.labels.tolist(), self.groups.tolist(), strict=True))
        return np.array(sorted(range(len(keys)), key=keys.__getitem__))

    @cached_property
    def spectrum(self) -> NDArray[np.float64]:
        """Eigenvalues of the pixels' covariance, up to a factor, on a bounded subset of the samples.

        All sums are of whole numbers below 2**53 and therefore exact.
        """
        values = int(np.prod(self.images.shape[1:]))
        size = min(len(self.images), _SUBSET_SAMPLES, max(2, _SUBSET_VALUES // values))
        pixels = self.images[self.ranked[:size]].reshape(size, values).astype(np.float64)
        gram = (pixels @ pixels.T).astype(np.int64)
        rows = gram.sum(axis=0)
        centred = size**2 * gram - size * (rows[:, None] + rows[None, :]) + rows.sum()
        return np.clip(np.linalg.eigvalsh(centred.astype(np.float64)), 0.0, None)

    def _chunks(self) -> list[NDArray[np.uint8]]:
        step = max(1, _CHUNK_VALUES // int(np.prod(self.images.shape[1:])))
        return [self.images[start : start + step] for start in range(0, len(self.images), step)]
