"""Volumes on their grid: orientation, cropping, resampling and intensities.

A volume is indexed (x, y, z) as NIfTI does, and the axes run to the patient's right, front and head (RAS). Datasets
are indexed (depth, height, width), which is (z, y, x): `to_dataset_axes` turns one into the other, and nothing else
does. Lists of three numbers in a card, `spacing` and `size`, are in the order of datasets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidData

_SPACINGS = (0.01, 100.0)  # millimetres; what a scanner can have made
MAX_VOXELS = 2**30


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """`values` (x, y, z), finite float32, whose voxel (i, j, k) is centred at `affine` @ (i, j, k, 1) millimetres.

    The axes are those of the patient, RAS, as far as turning and swapping axes can bring them there: an oblique volume
    stays oblique, and a gantry tilt is not undone.
    """

    values: NDArray[np.float32]
    affine: NDArray[np.float64]

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Millimetres between neighbours along x, y and z."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))


def check_grid(shape: Sequence[int], affine: NDArray[np.float64]) -> None:
    """Raise InvalidData where `shape` and `affine` are not those of a scan in three dimensions."""
    if len(shape) != 3:
        raise InvalidData(f"expected a 3-D volume, got shape {tuple(shape)}; store each volume in a file of its own")
    if not 0 < np.prod([float(length) for length in shape]) <= MAX_VOXELS:
        raise InvalidData(f"expected 1 to {MAX_VOXELS} voxels, got shape {tuple(shape)}; get the file again")
    with np.errstate(all="ignore"):
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        sound = np.isfinite(affine).all() and (spacing >= _SPACINGS[0]).all() and (spacing <= _SPACINGS[1]).all()
    if not sound:
        raise InvalidData(
            f"expected a voxel spacing of {_SPACINGS[0]:g} to {_SPACINGS[1]:g} mm along each axis, "
            f"got {np.array2string(spacing, precision=4)}; correct the header"
        )
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < 0.1:
        raise InvalidData(f"expected three axes at an angle, got {affine[:3, :3].tolist()}; correct the header")


def canonical(values: NDArray[Any], affine: NDArray[np.float64]) -> Volume:
    """The volume `values` on the grid `affine` (to RAS millimetres), turned so that its axes are closest to RAS.

    Raises InvalidData for a grid that is none and for values that are not finite numbers.
    """
    import nibabel

    check_grid(values.shape, affine)
    if values.dtype.kind not in "iufb":
        raise InvalidData(f"expected voxels that are real numbers, got {values.dtype}; convert the volume")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as that
        plain = np.asarray(values, dtype=np.float32)
    if unusable := int(np.count_nonzero(~np.isfinite(plain))):
        raise InvalidData(f"expected finite values, got {unusable} voxels that are NaN or infinite; repair the volume")
    turn = nibabel.io_orientation(affine)
    turned = affine @ nibabel.orientations.inv_ornt_aff(turn, values.shape)
    return Volume(np.ascontiguousarray(nibabel.apply_orientation(plain, turn)), np.asarray(turned, dtype=np.float64))


def check_same_grid(volume: Volume, name: str, other: Volume, other_name: str) -> None:
    """Raise InvalidData unless the two have the same shape and no corner is off by more than a tenth of a voxel."""
    remedy = f"resample {other_name} to the grid of {name}"
    if volume.values.shape != other.values.shape:
        raise InvalidData(
            f"{other_name}: expected the shape {volume.values.shape} of {name}, got {other.values.shape}; {remedy}"
        )
    corners = np.array([(*corner, 1.0) for corner in np.ndindex(2, 2, 2)])
    corners[:, :3] *= np.array(volume.values.shape) - 1
    distance = np.linalg.norm(corners @ (volume.affine - other.affine).T, axis=1).max()
    if distance > 0.1 * volume.spacing.min():
        raise InvalidData(f"{other_name}: expected the affine of {name}, got a corner {distance:.3g} mm away; {remedy}")


def bounding_box(region: NDArray[np.bool_], margin: NDArray[np.float64]) -> tuple[slice, slice, slice]:
    """The smallest box around `region`, which is not empty, widened by at least `margin` voxels, within the volume."""
    box = []
    for axis, length in enumerate(region.shape):
        width = int(np.ceil(margin[axis] - 1e-3))
        occupied = np.flatnonzero(region.any(axis=tuple({0, 1, 2} - {axis})))
        box.append(slice(max(0, int(occupied[0]) - width), min(length, int(occupied[-1]) + 1 + width)))
    return box[0], box[1], box[2]


def resample(
    channels: NDArray[np.float32],
    region: NDArray[np.bool_] | None,
    old: NDArray[np.float64],
    new: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None, NDArray[np.float64]]:
    """`channels` (c, x, y, z) and `region` (x, y, z) brought from the spacing `old` to `new`, and what it became.

    The first voxel keeps its centre. Images are interpolated linearly by MONAI; a voxel of the region is that of the
    nearest old one, and of the next where two are as near, which MONAI leaves to rounding errors. Raises InvalidData
    where there would be too many voxels.
    """
    import torch
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms.spatial.array import Spacing

    shape = np.round((np.array(channels.shape[1:]) - 1) * old / new) + 1
    if np.prod(shape) > MAX_VOXELS:
        raise InvalidData(
            f"expected at most {MAX_VOXELS} voxels at a spacing of {new[::-1].tolist()} mm, "
            f"got shape {shape.astype(int).tolist()}; give the card a larger volume.spacing"
        )
    tensor = MetaTensor(torch.from_numpy(channels), affine=torch.diag(torch.tensor([*old, 1.0], dtype=torch.float64)))
    change = Spacing(tuple(new), mode="bilinear", padding_mode="border", dtype=np.float32)
    result: Any = change(tensor)
    spacing = np.diag(np.asarray(result.affine, dtype=np.float64))[:3]
    values = np.asarray(result.numpy(), dtype=np.float32)
    if region is not None:
        for axis, (length, count) in enumerate(zip(region.shape, values.shape[1:], strict=True)):
            nearest = np.floor(np.arange(count) * spacing[axis] / old[axis] + 0.5 + 1e-6).astype(np.int64)
            region = region.take(np.minimum(nearest, length - 1), axis=axis)
    return values, region, spacing


def percentile_limits(volume: Volume, percentiles: tuple[float, float]) -> tuple[float, float]:
    """The `percentiles` of the values of `volume` that are not zero: zero is where nothing was measured."""
    measured = volume.values[volume.values != 0]
    low, high = np.percentile(measured, percentiles) if len(measured) else (0.0, 0.0)
    if low >= high:
        raise InvalidData(
            f"expected a volume with contrast, got {low:g} as the lower and {high:g} as the upper percentile of its "
            f"{len(measured)} voxels that are not zero; take the sample out or choose other percentiles"
        )
    return float(low), float(high)


def to_bytes(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    """`values` mapped linearly so that `low` becomes 0 and `high` 255; what is beyond them is clipped."""
    return np.asarray(np.rint(np.clip((values - low) / (high - low), 0, 1) * 255), dtype=np.uint8)


def to_dataset_axes(array: NDArray[Any]) -> NDArray[Any]:
    """`array` (..., x, y, z) as (..., z, y, x)."""
    return np.ascontiguousarray(np.swapaxes(array, -1, -3))
