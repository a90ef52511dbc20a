"""Volumes in DICOM series: one file per slice, put in order by position and stacked by MONAI's PydicomReader."""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from corpus_builder.datasets.volumes import canonical
from metaquery.errors import InvalidData

if TYPE_CHECKING:
    from corpus_builder.datasets.tree import FileTree
    from corpus_builder.datasets.volumes import Volume

_NEEDED = ("SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
# What pydicom raises for bytes or values that make no slice, and where it has no decoder for a compression.
_DAMAGE = (
    OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, OverflowError, NotImplementedError,
    RuntimeError, struct.error,
)  # fmt: skip


def read_series(tree: FileTree, path: str) -> Volume:
    """The volume of the one series in the directory at `path` of `tree`, with each slice's rescale slope applied.

    Its files are those ending in .dcm, or, where there are none, all; hidden ones are left alone. Raises InvalidData
    for anything but all slices of one series at even distances: files that are no images, several series, missing
    slices, colour, and files of several frames (enhanced DICOM, SEG), which are not supported.
    """
    from monai.data.image_reader import PydicomReader

    directory = tree.inside(path)
    if not directory.is_dir():
        raise InvalidData(f"expected a directory with the slices of one series, but {directory} is none; correct it")
    names = sorted(entry.name for entry in os.scandir(directory) if entry.is_file() and not entry.name.startswith("."))
    names = [name for name in names if name.lower().endswith(".dcm")] or names
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on values that are not needed
        slices = [_slice(tree, f"{path}/{name}") for name in names]
        try:
            slices = _in_order(slices)
            reader = PydicomReader()
            reader.has_series = True
            reader.filenames = [names]  # type: ignore[list-item]  # of a directory it is a list of lists
            for number, item in enumerate(slices, start=1):
                item.InstanceNumber = number  # by which MONAI sorts, though scanners may count otherwise
            values, meta = reader.get_data(slices)
            return canonical(values, np.asarray(meta["affine"], dtype=np.float64))
        except InvalidData as error:
            raise InvalidData(f"{directory}: {error}") from error
        except _DAMAGE as error:
            detail = " ".join(str(error).split()) or type(error).__name__
            raise InvalidData(f"{directory}: the series cannot be decoded ({detail}); get it again") from error


def _slice(tree: FileTree, path: str) -> Any:
    """The pydicom dataset in the file at `path`, which must be one image with a place in the patient."""
    import pydicom
    from pydicom.errors import BytesLengthException, InvalidDicomError

    content, file = tree.read(path), tree.inside(path)
    try:
        item = pydicom.dcmread(io.BytesIO(content))
        missing = [name for name in _NEEDED if getattr(item, name, None) in (None, "")]
        frames, colours = int(item.get("NumberOfFrames") or 1), int(item.get("SamplesPerPixel") or 1)
        has_pixels = any(name in item for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"))
    except (*_DAMAGE, InvalidDicomError, BytesLengthException) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise InvalidData(f"{file}: expected a DICOM file, but it cannot be read ({detail}); get it again") from error
    if not has_pixels:
        raise InvalidData(f"{file}: expected a DICOM slice, got one without pixel data; get it again or take it out")
    if frames > 1 or colours > 1:
        raise InvalidData(
            f"{file}: expected one grey slice, got {frames} frames of {colours} values a pixel; convert it to NIfTI"
        )
    if missing:
        raise InvalidData(f"{file}: expected a slice with {', '.join(missing)}, got none; take the file out")
    return item


def _in_order(slices: Sequence[Any]) -> list[Any]:
    """`slices` of one series sorted by their position along its normal; raises InvalidData where they are not that."""
    if len(slices) < 2:
        raise InvalidData(f"expected a series of at least two slices, got {len(slices)}; get the series again")
    if len(series := {str(item.SeriesInstanceUID) for item in slices}) > 1:
        raise InvalidData(f"expected one series, got the slices of {len(series)}; put each in its own directory")
    for name in ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient"):
        values = np.array([np.ravel(getattr(item, name)).astype(np.float64) for item in slices])
        if np.abs(values - values[0]).max() > 1e-3:
            raise InvalidData(f"expected one {name} in all slices, got several; put each stack in its own directory")
    row, column = np.reshape(slices[0].ImageOrientationPatient, (2, 3)).astype(np.float64)
    positions = np.array([item.ImagePositionPatient for item in slices], dtype=np.float64)
    along = positions @ np.cross(row, column)
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    usual = float(np.median(steps))
    if (worst := np.abs(steps - usual)).max() > max(0.1 * usual, 1e-3) or usual <= 0:
        at = int(worst.argmax())
        raise InvalidData(
            f"expected slices {usual:.3g} mm apart, got {steps[at]:.3g} mm after position {along[order][at]:.6g} mm; "
            "a slice is missing or there twice: get the series again or put each stack in its own directory"
        )
    return [slices[index] for index in order]
