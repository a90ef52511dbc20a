"""Volumes, series, masks and cards that cannot be used: one clear line each."""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from corpus_builder.datasets import examine, load_card
from corpus_builder.datasets.cards import Card, DataFile, SplitSpec, VolumeSpec, cards_root, read_front_matter
from corpus_builder.datasets.dicom import read_series
from corpus_builder.datasets.formats import read
from corpus_builder.datasets.nifti import read_nifti
from corpus_builder.datasets.raw import problems_of
from corpus_builder.datasets.tree import FileTree
from corpus_builder.datasets.volumes import MAX_VOXELS, check_grid, resample
from metaquery.errors import InvalidCard, InvalidData, MedCurvesError

VALUES = np.arange(120, dtype=np.float32).reshape(6, 5, 4)
MASK = (VALUES > 60).astype(np.uint8)


def save(path: Path, values: NDArray[Any], affine: NDArray[Any] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)


Rows = Sequence[Mapping[str, str]]
Make = Callable[..., Card]


def samples(patients: str) -> Rows:
    """The rows of the two sound samples, of `patients`."""
    return [
        {"t1": f"{name}.nii.gz", "t2": f"{name}_t2.nii.gz", "seg": f"{name}_seg.nii.gz", "label": label, "id": patient}
        for name, label, patient in zip("ab", ("cold", "hot"), patients, strict=True)
    ]


@pytest.fixture
def make(tmp_path: Path, card: Card) -> Make:
    """Write two sound samples of two patients, with masks and two channels, and a table of `rows`; give the card."""
    for name in "ab":
        save(tmp_path / f"{name}.nii.gz", VALUES + ord(name))
        save(tmp_path / f"{name}_t2.nii.gz", 2 * VALUES)
        save(tmp_path / f"{name}_seg.nii.gz", MASK)

    def write(rows: Rows | None = None, **changes: Any) -> Card:
        if rows is None:
            rows = samples("ab")
        with (tmp_path / "toy.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        digest = hashlib.sha256((tmp_path / "toy.csv").read_bytes()).hexdigest()
        keys = {"images": ["t1", "t2"], "labels": "label", "masks": "seg", "groups": "id"}
        made = replace(
            card, format="nifti_table", n_dims=3, channels=2, size=(4, 5, 6), n_samples=2, n_groups=2, keys=keys,
            class_counts=(1, 1), split=SplitSpec("grouped", 3, 0), files=(DataFile("toy.csv", digest),),
            tree_sha256="0" * 64, volume=VolumeSpec((1.0, 1.0, 1.0), windows=((0, 255),) * 2, margin=1.0),
        )  # fmt: skip
        return replace(made, **changes)

    return write


def refused(card: Card, root: Path, kind: type[MedCurvesError] = InvalidData) -> list[str]:
    """The problems with which reading is refused, but for the checksum, which is wrong for all of them."""
    with pytest.raises(MedCurvesError) as caught:
        read(card, root)
    assert type(caught.value) is kind
    problems = problems_of(caught.value)
    assert not any("\n" in problem for problem in problems)
    return [problem for problem in problems if "tree_sha256" not in problem]


def test_the_samples_are_sound_but_for_the_checksum(make: Make, tmp_path: Path) -> None:
    assert refused(make(), tmp_path) == []
    with pytest.raises(InvalidCard) as caught:
        read(make(tree_sha256=""), tmp_path)
    (problem,) = problems_of(caught.value)
    assert "the 6 files below" in problem


def bad_values(value: float) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        values = VALUES.copy()
        values[1, 2, 3] = value
        save(path, values)

    return change


def resaved(values: NDArray[Any], affine: Sequence[float] = (1, 1, 1), shift: float = 0) -> Callable[[Path], None]:
    matrix = np.diag([*affine, 1.0])
    matrix[0, 3] = shift
    return lambda path: save(path, values, matrix)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def web_page(path: Path) -> None:
    path.write_bytes(b"<html>not found</html>")


def colour(path: Path) -> None:
    save(path, np.zeros((6, 5, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]))


def broken_header(offset: int, content: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        whole = bytearray(gzip.decompress(path.read_bytes()))
        whole[offset : offset + len(content)] = content
        path.write_bytes(gzip.compress(bytes(whole)))

    return change


SKEWED = np.array([1, 1, 0, 0, 0, 0.05, 0, 0], "<f4").tobytes()  # the second axis nearly along the first


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("a.nii.gz", bad_values(np.nan), "a.nii.gz: expected finite values, got 1 voxels that are NaN or infinite"),
        ("a.nii.gz", bad_values(-np.inf), "a.nii.gz: expected finite values, got 1 voxels"),
        ("a.nii.gz", resaved(np.full((6, 5, 4), 1e300)), "a.nii.gz: expected finite values, got 120 voxels"),
        ("a.nii.gz", resaved(np.stack([VALUES] * 2, -1)), "a.nii.gz: expected a 3-D volume, got shape (6, 5, 4, 2)"),
        ("a.nii.gz", resaved(VALUES[..., 0]), "a.nii.gz: expected a 3-D volume, got shape (6, 5)"),
        ("a.nii.gz", resaved(VALUES.astype(np.complex64)), "a.nii.gz: expected voxels that are real numbers, got comp"),
        ("a.nii.gz", colour, "a.nii.gz: expected voxels that are real numbers, got [('R'"),
        ("a.nii.gz", truncated, "a.nii.gz: the volume is damaged, cut off or not NIfTI"),
        ("a.nii.gz", web_page, "a.nii.gz: the volume is damaged, cut off or not NIfTI"),
        ("a.nii.gz", broken_header(40, b"\xff\x7f" * 4), "a.nii.gz: "),
        ("a.nii.gz", broken_header(280, b"\0" * 12), "a.nii.gz: expected a voxel spacing of 0.01 to 100 mm"),
        ("a.nii.gz", broken_header(280, np.array([np.nan], "<f4").tobytes()), "a.nii.gz: expected a voxel spacing"),
        ("a.nii.gz", resaved(VALUES, (1, 1, 1e-4)), "a.nii.gz: expected a voxel spacing of 0.01 to 100 mm"),
        ("a.nii.gz", resaved(VALUES, (1, 900, 1)), "a.nii.gz: expected a voxel spacing of 0.01 to 100 mm"),
        ("a.nii.gz", broken_header(280, SKEWED), "a.nii.gz: expected three axes at an angle"),
        ("a_t2.nii.gz", resaved(VALUES[1:]), "a_t2.nii.gz: expected the shape (6, 5, 4) of"),
        ("a_t2.nii.gz", resaved(VALUES, shift=0.2), "a_t2.nii.gz: expected the affine of"),
        ("a_t2.nii.gz", resaved(VALUES, (1, 1, 1.1)), "a corner 0.3 mm away; resample"),
        ("a_seg.nii.gz", resaved(MASK[:, 1:]), "a_seg.nii.gz: expected the shape (6, 5, 4) of"),
        ("a_seg.nii.gz", resaved(MASK, (1, -1, 1)), "a_seg.nii.gz: expected the affine of"),
        ("a_seg.nii.gz", resaved(0 * MASK), "a_seg.nii.gz: expected a voxel that is not zero to cut the volume to"),
        ("a_seg.nii.gz", truncated, "a_seg.nii.gz: the volume is damaged, cut off or not NIfTI"),
        ("a_seg.nii.gz", lambda path: path.unlink(), "there is no file"),
    ],
)  # fmt: skip
def test_volumes_and_masks_that_cannot_be_used(
    make: Make, tmp_path: Path, file: str, change: Callable[[Path], None], reason: str
) -> None:
    change(tmp_path / file)
    problems = refused(make(), tmp_path)
    (problem,) = [problem for problem in problems if "toy.csv, line" in problem]
    assert problem.startswith(f"{tmp_path / 'toy.csv'}, line 2: ")
    assert reason in problem
    assert ";" in problem  # the remedy


def test_nifti_without_voxels(card: Card, tmp_path: Path) -> None:
    axes = (nibabel.cifti2.ScalarAxis(["a"]), nibabel.cifti2.SeriesAxis(0, 1, 3))
    nibabel.save(nibabel.Cifti2Image(np.zeros((1, 3), np.float32), axes), tmp_path / "a.dscalar.nii")
    with pytest.raises(InvalidData, match=r"a\.dscalar\.nii: expected a volume, got a Cifti2Image without voxels"):
        read_nifti(FileTree(card, tmp_path), "a.dscalar.nii")


def test_small_differences_of_affines_are_rounding(make: Make, tmp_path: Path) -> None:
    resaved(MASK, shift=0.05)(tmp_path / "a_seg.nii.gz")
    assert refused(make(), tmp_path) == []


def test_a_fourth_axis_of_length_one_is_dropped(make: Make, tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", VALUES[..., None])
    assert refused(make(), tmp_path) == []


def test_a_label_that_the_mask_does_not_have(make: Make, tmp_path: Path) -> None:
    card = make(volume=VolumeSpec((1.0, 1.0, 1.0), windows=((0, 255),) * 2, margin=1.0, mask_label=2))
    assert "expected a voxel of label 2 to cut the volume to, got only [0.0, 1.0]" in refused(card, tmp_path)[0]
    uncut = replace(card, volume=VolumeSpec((1.0, 1.0, 1.0), windows=((0, 255),) * 2, mask_label=2))
    assert refused(uncut, tmp_path) == []


def test_a_volume_without_contrast_has_no_percentiles(make: Make, tmp_path: Path) -> None:
    save(tmp_path / "b_t2.nii.gz", np.where(VALUES > 9, np.float32(7), np.float32(0)))
    card = make(volume=VolumeSpec((1.0, 1.0, 1.0), percentiles=(1, 99)))
    (problem,) = refused(card, tmp_path)
    assert "line 3: " in problem
    assert "expected a volume with contrast, got 7 as the lower and 7 as the upper percentile of its 110 vox" in problem


def test_volumes_too_large_are_refused_before_they_are_made() -> None:
    with pytest.raises(InvalidData, match="expected at most"):
        resample(VALUES[None], None, np.full(3, 100.0), np.full(3, 0.01))
    with pytest.raises(InvalidData, match=f"expected 1 to {MAX_VOXELS} voxels"):
        check_grid((32767, 32767, 32767), np.eye(4))


def test_all_bad_rows_are_told_at_once(make: Make, tmp_path: Path) -> None:
    good = {"t1": "a.nii.gz", "t2": "a_t2.nii.gz", "seg": "a_seg.nii.gz", "label": "cold", "id": "a"}
    changes = [
        {},
        {"label": "?"},
        {"id": ""},
        {"seg": ""},
        {"t1": "../a.nii.gz"},
        {"t2": "gone.nii"},
        {"t1": "toy.csv"},
        {},
    ]
    problems = refused(make([good | change for change in changes]), tmp_path)
    reasons = [
        "line 3: expected one of the labels",
        "line 4: expected a group in column 'id'",
        "line 5: expected a path in column 'seg'",
        "expected each image once",
        "expected each image once",
        "expected each image once",
        "line 6: expected a path inside",
        "line 7: there is no file",
        "toy.csv: expected a file .nii or .nii.gz; convert it to NIfTI",
    ]
    for reason in reasons:
        assert any(reason in problem for problem in problems), (reason, problems)


def test_a_patient_with_two_labels_needs_the_cards_word(make: Make, tmp_path: Path) -> None:
    rows = samples("pp")
    card = make(rows, n_groups=1)
    (problem,) = refused(card, tmp_path)
    assert "expected one label per group, got several in 1, such as 'p'" in problem
    assert "mixed_groups: true" in problem
    assert refused(replace(card, mixed_groups=True), tmp_path) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_refused_in_one_line_or_changes_only_voxels(
    card: Card, tmp_path: Path, data: st.DataObject
) -> None:
    suffix = data.draw(st.sampled_from([".nii", ".nii.gz"]))
    path = tmp_path / f"scan{suffix}"
    save(path, VALUES)
    content = bytearray(path.read_bytes())
    end = st.integers(0, min(len(content), 400) - 1)
    for position in data.draw(st.lists(end, max_size=3)):
        content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]) if data.draw(st.booleans()) else content)
    try:
        volume = read_nifti(FileTree(card, tmp_path), path.name)
        assert np.isfinite(volume.values).all()
        message = f"{path}: "
    except InvalidData as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


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
    make: Make, tmp_path: Path, n: int, change: Callable[[int, Any], None], reason: str
) -> None:
    series(tmp_path / "s", n, change)
    keys = {"images": "image", "labels": "label"}
    card = make([{"image": "s", "label": "cold"}], format="dicom_table", keys=keys, channels=1,
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
def test_damaged_series(make: Make, tmp_path: Path, spoil: Callable[[Path], None], reason: str) -> None:
    series(tmp_path / "s")
    spoil(tmp_path / "s" / "1.dcm")
    keys = {"images": "image", "labels": "label"}
    rows = [{"image": "s", "label": "cold"}, {"image": "s/0.dcm", "label": "hot"}]
    card = make(rows, format="dicom_table", keys=keys, channels=1, n_groups=2,
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


BLOCK = {
    "name": "toy", "classes": ["cold", "hot"], "class_counts": {"cold": 1, "hot": 1}, "n_dims": 3, "channels": 2,
    "n_samples": 2, "n_groups": 2, "format": "nifti_table", "size": [4, 5, 6],
    "keys": {"images": ["t1", "t2"], "labels": "label", "masks": "seg", "groups": "id"},
    "volume": {"spacing": [1, 1, 1], "window": [0, 255], "margin": 1},
    "split": {"kind": "grouped", "folds": 3, "seed": 0},
    "files": [{"path": "toy.csv", "sha256": "0" * 64}],
}  # fmt: skip
FOLDS = {"kind": "table", "folds": 2, "seed": 0, "file": "toy/splits.csv"}


def card_file(tmp_path: Path, changes: dict[str, Any]) -> Path:
    front = dict(read_front_matter(cards_root() / "head_ct_hemorrhage.md"))
    block = {key: value for key, value in front["medcurves"].items() if key != "shape"} | BLOCK | changes
    path = tmp_path / "toy.md"
    path.write_text(f"---\n{yaml.safe_dump(front | {'medcurves': block})}---\n")
    return path


def test_block_of_a_card_becomes_its_rules(tmp_path: Path) -> None:
    changes = {"volume": {"spacing": [3, 1, 1.5], "window": [[0, 9], [-5, 5]], "margin": 0, "mask_label": 2}}
    card = load_card(card_file(tmp_path, changes))
    assert card.volume == VolumeSpec((3, 1, 1.5), ((0, 9), (-5, 5)), None, 0, 2)
    assert load_card(card_file(tmp_path, {})).volume == VolumeSpec((1, 1, 1), ((0, 255), (0, 255)), None, 1)
    percentiles = {"volume": {"spacing": [1, 1, 1], "percentiles": [0.5, 99.5]}}
    assert load_card(card_file(tmp_path, percentiles)).volume == VolumeSpec((1, 1, 1), (), (0.5, 99.5))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"volume": {"spacing": [1, 1, 1], "window": [0, 9], "percentiles": [1, 99]}}, "one of them, to map values"),
        ({"volume": {"spacing": [1, 1, 1]}}, "and has neither"),
        ({"volume": {"spacing": [1, 1, 1], "window": [9, 0]}}, "volume maps 9 to 0 and 0 to 255"),
        ({"volume": {"spacing": [1, 1, 1], "window": [[0, 9]]}}, "volume.window has 1 windows but channels is 2"),
        ({"volume": {"spacing": [1, 1, 0], "window": [0, 9]}}, "volume.spacing.2: 0 is less than"),
        ({"volume": {"spacing": [1, 1], "window": [0, 9]}}, "volume.spacing: [1, 1]"),
        ({"volume": {"spacing": [1, 1, 1], "window": [0, 9], "colour": 1}}, "'colour' was unexpected"),
        ({"keys": {"images": ["t1", "t2"], "labels": "label"}}, "volume.margin needs keys.masks"),
        ({"keys": {"images": "t1", "labels": "label", "masks": "seg"}}, "names 1 columns but channels is 2"),
        ({"channels": 1}, "keys.images names 2 columns but channels is 1"),
        ({"n_dims": 2}, "medcurves.n_dims: 3 was expected"),
        ({"size": [4, 5]}, "medcurves.size: [4, 5] is too short"),
        ({"mixed_groups": False}, "medcurves.mixed_groups: True was expected"),
        ({"split": {"kind": "official"}}, "keys.split does not say which column holds it"),
        ({"split": FOLDS}, "split.file 'toy/splits.csv' is not in files"),
        ({"split": {"kind": "table"}}, "medcurves.split: 'folds' is a required property"),
        (
            {"split": {"kind": "grouped", "folds": 3, "seed": 0, "file": "toy.csv"}},
            "split.file is that of a split table",
        ),
        (
            {"format": "image_table", "n_dims": 2, "size": [4, 5], "channels": 3},
            "does not use volume, keys.masks; leave them out",
        ),
        ({"format": "image_table", "n_dims": 2, "size": [4, 5], "channels": 3}, "does not take a list in keys.images"),
    ],
)
def test_contradictions_of_cards_of_volumes(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = card_file(tmp_path, changes)
    with pytest.raises(InvalidCard) as caught:
        load_card(path)
    assert reason in str(caught.value)
    assert reason in " ".join(examine(path, tmp_path).problems)


JUNK = [
    None,
    0,
    -3,
    "",
    "x",
    [],
    [[]],
    [6, "a"],
    [1, 2],
    [[1, 2]],
    {},
    {"kind": 3},
    {"images": ["a", "b"]},
    {"spacing": 1},
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_card_of_volumes_is_too_broken_to_be_explained(tmp_path: Path, data: st.DataObject) -> None:
    changes: dict[str, Any] = {}
    for key in data.draw(st.lists(st.sampled_from([*BLOCK, "mixed_groups"]), min_size=1, max_size=3)):
        changes[key] = data.draw(st.sampled_from(JUNK))
    for part in ("volume", "split", "keys"):
        if part not in changes and data.draw(st.booleans()):
            inner: Any = BLOCK[part]
            changes[part] = inner | {data.draw(st.sampled_from(list(inner))): data.draw(st.sampled_from(JUNK))}
    found = examine(card_file(tmp_path, changes), tmp_path)
    assert found.problems  # the file, at least
    assert not any("\n" in problem for problem in found.problems)
