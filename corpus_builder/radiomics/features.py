"""The feature table of a set of images: one row a sample, one named column a feature."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from corpus_builder.radiomics import firstorder, texture
from corpus_builder.radiomics import shape as shapes
from corpus_builder.radiomics.filters import derived_images


def feature_names(channels: int, n_dims: int, *, masked: bool) -> tuple[str, ...]:
    """The columns of `extract`: shape where there are masks, then for each channel and filtered image first-order
    statistics and, at every distance, texture."""
    kinds = [name for name, _, _ in derived_images(np.zeros((2,) * n_dims), None)]
    glcm = [f"glcm{distance}.{name}" for distance in texture.DISTANCES for name in texture.NAMES]
    of_image = [f"{kind}.{name}" for kind in kinds for name in (*firstorder.NAMES, *glcm)]
    prefixes = [""] if channels == 1 else [f"channel{channel}." for channel in range(channels)]
    shape = [f"shape.{name}" for name in shapes.names(n_dims)] if masked else []
    return (*shape, *(prefix + name for prefix in prefixes for name in of_image))


def extract(
    images: NDArray[np.uint8], masks: NDArray[np.bool_] | None = None, spacing: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """The features of `images` (n, channels, *size), (n, features), in the order of `feature_names`.

    The region is that of `masks` (n, *size), the whole image where there are none; a sample with an empty mask has
    NaN in every column. `spacing` (n, n_dims) in millimetres scales the shape features alone: texture and filters count
    in pixels.
    """
    nothing = [None] * len(images)
    rows = zip(images, nothing if masks is None else masks, nothing if spacing is None else spacing, strict=True)
    width = len(feature_names(images.shape[1], images.ndim - 2, masked=masks is not None))
    return np.array([_sample(*row) for row in rows]).reshape(len(images), width)


def _sample(
    image: NDArray[np.uint8], mask: NDArray[np.bool_] | None, spacing: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    parts = [] if mask is None else [shapes.shape(mask, spacing)]
    for channel in image:
        for _, derived, region in derived_images(channel.astype(np.float64), mask):
            levels = texture.grey_levels(derived, region)
            values = derived.ravel() if region is None else derived[region]
            parts.append(firstorder.first_order(values, texture.histogram(levels)))
            parts += [texture.texture(texture.cooccurrence(levels, distance)) for distance in texture.DISTANCES]
    return np.concatenate(parts)
