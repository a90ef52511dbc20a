"""Size and form of a region, in millimetres where the spacing is known, else in pixels."""

from __future__ import annotations

from math import pi

import numpy as np
from numpy.typing import NDArray


def names(n_dims: int) -> tuple[str, ...]:
    """The names of the features of `shape` in 2-D or 3-D."""
    axes = tuple(f"extent_{axis}" for axis in range(n_dims))
    if n_dims == 2:
        return ("area", "perimeter", "sphericity", *axes, "major_axis", "minor_axis", "elongation")
    principal = ("major_axis", "minor_axis", "least_axis", "elongation", "flatness")
    return ("volume", "surface", "sphericity", *axes, *principal)


def shape(mask: NDArray[np.bool_], spacing: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """The features `names` of the region `mask`, (*size), whose pixels are `spacing` (n_dims,) apart.

    Volume and surface (area and perimeter in 2-D) are those of the surface that marching cubes (squares) draws around
    the region. Sphericity is the surface of the ball of the same volume over the region's, 1 for a ball. The principal
    axes are those of the ellipsoid with the same second moments; elongation is minor over major axis, flatness least
    over major. All are NaN where the region is empty.
    """
    if not mask.any():
        return np.full(len(names(mask.ndim)), np.nan)
    unit = np.ones(mask.ndim) if spacing is None else np.asarray(spacing, dtype=np.float64)
    points = np.argwhere(mask)
    low, high = points.min(0), points.max(0) + 1
    padded = np.pad(mask[tuple(map(slice, low, high))], 1).astype(np.float32)
    if mask.ndim == 2:
        size, surface = _outline(padded, unit)
        of_ball = 2 * np.sqrt(pi * size)
    else:
        size, surface = _mesh(padded, unit)
        of_ball = (36 * pi * size**2) ** (1 / 3)
    moments = np.atleast_2d(np.cov((points * unit).T, bias=True)) + np.diag(unit**2 / 12)  # of boxes, not of points
    axes = 2 * np.sqrt((mask.ndim + 2) * np.linalg.eigvalsh(moments)[::-1])
    return np.array([size, surface, of_ball / surface, *(high - low) * unit, *axes, *(axes[1:] / axes[0])])


def _outline(padded: NDArray[np.float32], unit: NDArray[np.float64]) -> tuple[float, float]:
    """Area and perimeter of a region; the outline of a hole adds to the one and is taken from the other."""
    from skimage.measure import find_contours

    area = perimeter = 0.0
    for contour in find_contours(padded, 0.5):
        y, x = (contour * unit).T
        area += 0.5 * float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))
        perimeter += float(np.hypot(np.diff(y), np.diff(x)).sum())
    return abs(area), perimeter


def _mesh(padded: NDArray[np.float32], unit: NDArray[np.float64]) -> tuple[float, float]:
    """Volume and surface of a region."""
    from skimage.measure import marching_cubes

    corners, faces, _, _ = marching_cubes(padded, 0.5, spacing=tuple(unit))
    a, b, c = (corners[faces[:, k]].astype(np.float64) for k in range(3))
    normals = np.cross(b - a, c - a)
    return abs(float((a * normals).sum())) / 6, 0.5 * float(np.linalg.norm(normals, axis=1).sum())
