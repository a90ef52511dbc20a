"""The images that features are computed on: the original and what filters make of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

LOG_SCALES = (1.0, 2.0)  # in pixels
WAVELET = "coif1"

Derived = tuple[str, NDArray[np.float64], NDArray[np.bool_] | None]


def derived_images(image: NDArray[np.float64], mask: NDArray[np.bool_] | None) -> Iterator[Derived]:
    """Name, image and region of the original, of the gradient's magnitude, of two Laplacians of Gaussians, and of every
    sub-band of a one-level wavelet transform of `image` (*size)."""
    from scipy.ndimage import gaussian_laplace

    yield "original", image, mask
    steps = np.gradient(image) if min(image.shape) > 1 else [np.zeros_like(image)]
    yield "gradient", np.sqrt(sum(step * step for step in steps)), mask
    for scale in LOG_SCALES:
        yield f"log_{scale:g}", gaussian_laplace(image, scale, truncate=3.0), mask
    coarse = None if mask is None else _halved(mask)
    for name, band in sub_bands(image).items():
        yield f"wavelet_{name}", band, coarse


def sub_bands(image: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """The sub-bands of one level of the wavelet transform, half as large along each axis, named by L (low) and H (high)
    for each axis. The transform keeps the energy of images of even size."""
    from pywt import dwtn

    bands = dwtn(image, WAVELET, mode="periodization")
    letters = {"a": "L", "d": "H"}
    return {"".join(letters[c] for c in key): bands[key] for key in map("".join, product("ad", repeat=image.ndim))}


def _halved(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The region in the sub-bands: each pixel that covers a pixel of `mask`."""
    padded = np.pad(mask, [(0, n % 2) for n in mask.shape])
    blocks = padded.reshape([part for n in padded.shape for part in (n // 2, 2)])
    halved: NDArray[np.bool_] = blocks.any(axis=tuple(range(1, blocks.ndim, 2)))
    return halved
