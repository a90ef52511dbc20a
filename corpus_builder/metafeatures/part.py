"""The training part of a dataset and the summaries that several descriptors share, all exact and free of order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_SUBSET_SAMPLES = 256
_SUBSET_VALUES = 2**25
_CHUNK_VALUES = 2**24


@dataclass(frozen=True, eq=False)
class TrainingPart:
    """`images` (n, channels, *spatial) uint8, `labels` (n,) int64 and the number of groups."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    n_groups: int

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
    def spectrum(self) -> NDArray[np.float64]:
        """Eigenvalues of the pixels' covariance, up to a factor, on a bounded subset of the samples.

        The subset is the samples with the smallest SHA-256, which is as good as random and knows no order. All sums
        are of whole numbers below 2**53 and therefore exact.
        """
        digests = [hashlib.sha256(image.tobytes()).digest() for image in self.images]
        values = int(np.prod(self.images.shape[1:]))
        size = min(len(digests), _SUBSET_SAMPLES, max(2, _SUBSET_VALUES // values))
        chosen = sorted(range(len(digests)), key=digests.__getitem__)[:size]
        pixels = self.images[chosen].reshape(size, values).astype(np.float64)
        gram = (pixels @ pixels.T).astype(np.int64)
        rows = gram.sum(axis=0)
        centred = size**2 * gram - size * (rows[:, None] + rows[None, :]) + rows.sum()
        return np.clip(np.linalg.eigvalsh(centred.astype(np.float64)), 0.0, None)

    def _chunks(self) -> list[NDArray[np.uint8]]:
        step = max(1, _CHUNK_VALUES // int(np.prod(self.images.shape[1:])))
        return [self.images[start : start + step] for start in range(0, len(self.images), step)]
