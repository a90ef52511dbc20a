"""DICOM series that cannot be used: one clear line each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from volume_files import MakeTwo, refused

from corpus_builder.datasets.cards import Card, VolumeSpec
from corpus_builder.datasets.dicom import read_series
from corpus_builder.datasets.tree import FileTree
from metaquery.errors import InvalidData


def series(directory: Path, n: int = 4, change: Callable[[int, Any], None] = lambda k, item: None) -> None:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    directory.mkdir()
    for k in range(n):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
        meta.MediaStorageSOPInstanceUID = f"1.2.{k + 1}"
        item = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        item.SOPClassUID, item.SOPInstanceUID, item.SeriesInstanceUID = CTImageStorage, f"1.2.{k + 1}", "1.3"
        item.ImagePositionPatient, item.ImageOrientationPatient = [0, 0, 2.5 * k], [1, 0, 0, 0, 1, 0]
        item.PixelSpacing, item.Rows, item.Columns = [1, 1], 5, 6
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 16, 16, 15, 0
        item.PixelData = bytes(60)
        change(k, item)
        item.save_as(directory / f"{k}.dcm", enforce_file_format=True)


def setting(number: int, **changes: Any) -> Callable[[int, Any], None]:
    def change(k: int, item: Any) -> None:
        for key, value in changes.items():
            if k == number and value is None:
                delattr(item, key)
            elif k == number:
                setattr(item, key, value)

    return change


@pytest.mark.parametrize(
    ("n", "change", "reason"),
    [
        (1, setting(9), "expected a series of at least two slices, got 1"),
        (0, setting(9), "expected a series of at least two slices, got 0"),
        (4, setting(2, SeriesInstanceUID="1.4"), "expected one series, got the slices of 2"),
        (4, setting(3, ImagePositionPatient=[0, 0, 10]), "expected slices 2.5 mm apart, got 5 mm after position 5 mm"),
        (4, setting(3, ImagePositionPatient=[0, 0, 5]), "expected slices 2.5 mm apart, got 0 mm after position 5 mm"),
        (
            4,
            setting(1, ImageOrientationPatient=[0, 1, 0, 1, 0, 0]),
            "expected one ImageOrientationPatient in all slices",
        ),
        (4, setting(1, PixelSpacing=[1, 2]), "expected one PixelSpacing in all slices, got several"),
        (4, setting(1, PixelData=None), "1.dcm: expected a DICOM slice, got one without pixel data"),
        (4, setting(1, PixelData=bytes(20)), "the series cannot be decoded"),
        (4, setting(1, ImagePositionPatient=None), "1.dcm: expected a slice with ImagePositionPatient, got none"),
        (4, setting(1, NumberOfFrames=3), "1.dcm: expected one grey slice, got 3 frames of 1 values a pixel"),
        (4, setting(1, SamplesPerPixel=3), "1.dcm: expected one grey slice, got 1 frames of 3 values a pixel"),
        (4, setting(1, RescaleSlope="1e39", PixelData=b"\1\0" * 30), "expected finite values"),
    ],
)
def test_series_that_cannot_be_used(
    make_two: MakeTwo, tmp_path: Path, n: int, change: Callable[[int, Any], None], reason: str
) -> None:
    series(tmp_path / "s", n, change)
    keys = {"images": "image", "labels": "label"}
    card = make_two([{"image": "s", "label": "cold"}], format="dicom_table", keys=keys, channels=1,
                volume=VolumeSpec((1.0, 1.0, 1.0), windows=((0, 9),)))  # fmt: skip
    (problem,) = [problem for problem in refused(card, tmp_path) if "toy.csv, line" in problem]
    assert problem.startswith(f"{tmp_path / 'toy.csv'}, line 2: {tmp_path / 's'}")
    assert reason in problem
    assert ";" in problem


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), "the series cannot be decoded"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "1.dcm: expected a DICOM"),
        (lambda path: path.write_bytes(b"<html>"), "1.dcm: expected a DICOM file, but it cannot be read"),
        (lambda path: path.unlink(), "expected slices 3.75 mm apart"),
    ],
)
def test_damaged_series(make_two: MakeTwo, tmp_path: Path, spoil: Callable[[Path], None], reason: str) -> None:
    series(tmp_path / "s")
    spoil(tmp_path / "s" / "1.dcm")
    keys = {"images": "image", "labels": "label"}
    rows = [{"image": "s", "label": "cold"}, {"image": "s/0.dcm", "label": "hot"}]
    card = make_two(rows, format="dicom_table", keys=keys, channels=1, n_groups=2,
                volume=VolumeSpec((1.0, 1.0, 1.0), windows=((0, 9),)))  # fmt: skip
    problems = refused(card, tmp_path)
    assert reason in problems[0]
    assert "expected a directory with the slices of one series" in problems[1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_of_a_slice_is_refused_in_one_line_or_changes_only_voxels(
    card: Card, tmp_path: Path, data: st.DataObject
) -> None:
    if not (tmp_path / "s").exists():
        series(tmp_path / "s", 2)
        (tmp_path / "whole").write_bytes((tmp_path / "s/1.dcm").read_bytes())
    content = bytearray((tmp_path / "whole").read_bytes())
    for position in data.draw(st.lists(st.integers(128, len(content) - 1), max_size=3)):
        content[position] ^= data.draw(st.integers(1, 255))
    end = data.draw(st.integers(0, len(content))) if data.draw(st.booleans()) else len(content)
    (tmp_path / "s/1.dcm").write_bytes(content[:end])
    try:
        volume = read_series(FileTree(card, tmp_path), "s")
        assert np.isfinite(volume.values).all()
        message = f"{tmp_path / 's'}: "
    except InvalidData as error:
        message = str(error)
    assert message.startswith((f"{tmp_path / 's'}: ", f"{tmp_path / 's/1.dcm'}: "))
    assert "\n" not in message
