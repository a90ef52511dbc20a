"""Volumes as images, so that what is measured on images can be compared between 2-D and 3-D datasets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_SLICES = 6


def slices(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`images` (n, channels, *spatial) as (n, slices, channels, height, width).

    An image is its only slice. A volume gives at most MOST_SLICES, evenly spaced along its first spatial axis.
    """
    if images.ndim == 4:
        return images[:, None]
    depth = images.shape[2]
    count = min(depth, MOST_SLICES)
    chosen = (2 * np.arange(count) + 1) * depth // (2 * count)
    return np.moveaxis(images[:, :, chosen], 2, 1)
