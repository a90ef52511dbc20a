"""Resizing of a whole stack of images or volumes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_CHUNK_BYTES = 64 * 2**20


def resize(images: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """`images` (n, channels, *spatial) brought to the spatial shape `size`, rounded back to uint8.

    Linear interpolation on the grid of pixel areas after a Gaussian of standard deviation (factor - 1) / 2 along
    each axis that shrinks: what `skimage.transform.resize(..., order=1, anti_aliasing=True)` does. Both steps are
    linear and separable, so each axis is one small matrix, found by resizing the unit vectors with scipy.
    """
    if images.shape[2:] == size:
        return np.ascontiguousarray(images)
    operators = [_operator(old, new) for old, new in zip(images.shape[2:], size, strict=True)]
    result = np.empty((*images.shape[:2], *size), dtype=np.uint8)
    step = max(1, _CHUNK_BYTES // (8 * int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), step):
        values = images[start : start + step].astype(np.float64)
        for operator in operators:  # each turn takes the first spatial axis and puts it last, resized
            values = np.tensordot(values, operator, axes=(2, 1))
        result[start : start + step] = np.rint(values)
    return result


def resize_masks(masks: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """`masks` (n, *spatial) at another size: what at least half of the old voxels under a new one belong to.

    A region so small that it fills no new voxel by half keeps those that it fills most.
    """
    filled = resize(masks[:, None].astype(np.uint8) * np.uint8(255), size)[:, 0]
    most = filled.max(axis=tuple(range(1, filled.ndim)), keepdims=True)
    return np.asarray(filled >= np.clip(most, 1, 128))


@lru_cache(maxsize=16)  # images of one folder often have a few sizes and are resized one at a time
def _operator(old: int, new: int) -> NDArray[np.float64]:
    """Matrix (new, old) that resizes a line of `old` values to `new`."""
    from scipy.ndimage import gaussian_filter1d, zoom

    units = np.eye(old)
    factor = old / new
    if factor > 1:
        units = gaussian_filter1d(units, (factor - 1) / 2, axis=0, mode="mirror")
    if old == new:
        return units
    return np.asarray(zoom(units, (new / old, 1), order=1, mode="mirror", grid_mode=True))
