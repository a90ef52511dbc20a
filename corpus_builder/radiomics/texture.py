"""Texture from grey-level co-occurrence matrices (Haralick et al., IEEE Trans. SMC 1973), in any number of dimensions.

Neighbours are true offsets of the image, 4 directions in 2-D and 13 in 3-D; the matrices of all directions are added up
before the features are computed, so that a small region still fills its matrix.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

LEVELS = 16
DISTANCES = (1, 2)
NAMES = (
    *("joint_maximum", "joint_variance", "joint_entropy", "contrast", "dissimilarity", "homogeneity"),
    *("angular_second_moment", "correlation", "cluster_shade", "cluster_prominence"),
)


def grey_levels(image: NDArray[np.float64], mask: NDArray[np.bool_] | None) -> NDArray[np.intp]:
    """`image` (*size) in LEVELS grey levels from 0, equally wide over the range of the region; LEVELS outside of it."""
    inside = image if mask is None else image[mask]
    if not inside.size:
        return np.full(image.shape, LEVELS, dtype=np.intp)
    low = inside.min()
    width = max((inside.max() - low) / LEVELS, np.finfo(np.float64).tiny)
    levels: NDArray[np.intp] = np.clip((image - low) / width, 0, LEVELS - 1).astype(np.intp)
    if mask is not None:
        levels[~mask] = LEVELS
    return levels


def histogram(levels: NDArray[np.intp]) -> NDArray[np.float64]:
    """The share of each grey level in the region, (LEVELS,); zero where the region is empty."""
    counts = np.bincount(levels.ravel(), minlength=LEVELS + 1)[:LEVELS]
    shares: NDArray[np.float64] = counts / max(1, counts.sum())
    return shares


def cooccurrence(levels: NDArray[np.intp], distance: int) -> NDArray[np.float64]:
    """How often two grey levels are neighbours at `distance`, (LEVELS, LEVELS), symmetric, counted both ways."""
    side = LEVELS + 1
    counts = np.zeros(side * side, dtype=np.int64)
    for offset in directions(levels.ndim):
        steps = [distance * step for step in offset]
        near = levels[tuple(slice(max(0, -step), min(n, n - step)) for step, n in zip(steps, levels.shape))]
        far = levels[tuple(slice(max(0, step), min(n, n + step)) for step, n in zip(steps, levels.shape))]
        counts += np.bincount((near * side + far).ravel(), minlength=side * side)
    inside = counts.reshape(side, side)[:LEVELS, :LEVELS]
    return (inside + inside.T).astype(np.float64)


@cache
def directions(n_dims: int) -> tuple[tuple[int, ...], ...]:
    """One unit offset for each pair of opposite neighbours, diagonal ones included."""
    return tuple(offset for offset in product((-1, 0, 1), repeat=n_dims) if offset > (0,) * n_dims)


def texture(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The features NAMES of a symmetric co-occurrence matrix, (LEVELS, LEVELS); NaN where it is empty.

    Correlation is 1 where there is one grey level only; entropy is in bits.
    """
    total = counts.sum()
    if total == 0:
        return np.full(len(NAMES), np.nan)
    p = counts.ravel() / total
    i, j, gap = _cells()
    mean = np.dot(p, i)
    squares = gap * gap
    variance = np.dot(p, (i - mean) ** 2)
    covariance = np.dot(p, (i - mean) * (j - mean))
    tendency = i + j - 2 * mean
    cubes = tendency * tendency * tendency
    present = p[p > 0]
    return np.array(
        [
            p.max(),
            variance,
            -np.dot(present, np.log2(present)),
            np.dot(p, squares),
            np.dot(p, gap),
            np.dot(p, 1 / (1 + squares)),
            np.dot(p, p),
            covariance / variance if variance > 0 else 1.0,
            np.dot(p, cubes),
            np.dot(p, cubes * tendency),
        ]
    )


@cache
def _cells() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Both grey levels and the gap between them, for every cell of a matrix in order."""
    i, j = (levels.ravel() for levels in np.indices((LEVELS, LEVELS), dtype=np.float64))
    return i, j, np.abs(i - j)
