"""Volumes, masks and tables of them that cannot be used: one clear line each."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from volume_files import MASK, VALUES, MakeTwo, refused, samples, save_nifti

from corpus_builder.datasets.cards import Card, VolumeSpec
from corpus_builder.datasets.formats import read
from corpus_builder.datasets.nifti import read_nifti
from corpus_builder.datasets.raw import problems_of
from corpus_builder.datasets.tree import FileTree
from corpus_builder.datasets.volumes import MAX_VOXELS, check_grid, resample
from metaquery.errors import InvalidCard, InvalidData


def test_the_samples_are_sound_but_for_the_checksum(make_two: MakeTwo, tmp_path: Path) -> None:
    assert refused(make_two(), tmp_path) == []
    with pytest.raises(InvalidCard) as caught:
        read(make_two(tree_sha256=""), tmp_path)
    (problem,) = problems_of(caught.value)
    assert "the 6 files below" in problem


def bad_values(value: float) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        values = VALUES.copy()
        values[1, 2, 3] = value
        save_nifti(path, values)

    return change


def resaved(values: NDArray[Any], affine: Sequence[float] = (1, 1, 1), shift: float = 0) -> Callable[[Path], None]:
    matrix = np.diag([*affine, 1.0])
    matrix[0, 3] = shift
    return lambda path: save_nifti(path, values, matrix)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def web_page(path: Path) -> None:
    path.write_bytes(b"<html>not found</html>")


def colour(path: Path) -> None:
    save_nifti(path, np.zeros((6, 5, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]))


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
    make_two: MakeTwo, tmp_path: Path, file: str, change: Callable[[Path], None], reason: str
) -> None:
    change(tmp_path / file)
    problems = refused(make_two(), tmp_path)
    (problem,) = [problem for problem in problems if "toy.csv, line" in problem]
    assert problem.startswith(f"{tmp_path / 'toy.csv'}, line 2: ")
    assert reason in problem
    assert ";" in problem  # the remedy


def test_nifti_without_voxels(card: Card, tmp_path: Path) -> None:
    axes = (nibabel.cifti2.ScalarAxis(["a"]), nibabel.cifti2.SeriesAxis(0, 1, 3))
    nibabel.save(nibabel.Cifti2Image(np.zeros((1, 3), np.float32), axes), tmp_path / "a.dscalar.nii")
    with pytest.raises(InvalidData, match=r"a\.dscalar\.nii: expected a volume, got a Cifti2Image without voxels"):
        read_nifti(FileTree(card, tmp_path), "a.dscalar.nii")


def test_small_differences_of_affines_are_rounding(make_two: MakeTwo, tmp_path: Path) -> None:
    resaved(MASK, shift=0.05)(tmp_path / "a_seg.nii.gz")
    assert refused(make_two(), tmp_path) == []


def test_a_fourth_axis_of_length_one_is_dropped(make_two: MakeTwo, tmp_path: Path) -> None:
    save_nifti(tmp_path / "a.nii.gz", VALUES[..., None])
    assert refused(make_two(), tmp_path) == []


def test_a_label_that_the_mask_does_not_have(make_two: MakeTwo, tmp_path: Path) -> None:
    card = make_two(volume=VolumeSpec((1.0, 1.0, 1.0), windows=((0, 255),) * 2, margin=1.0, mask_label=2))
    assert "expected a voxel of label 2 to cut the volume to, got only [0.0, 1.0]" in refused(card, tmp_path)[0]
    uncut = replace(card, volume=VolumeSpec((1.0, 1.0, 1.0), windows=((0, 255),) * 2, mask_label=2))
    assert refused(uncut, tmp_path) == []


def test_a_volume_without_contrast_has_no_percentiles(make_two: MakeTwo, tmp_path: Path) -> None:
    save_nifti(tmp_path / "b_t2.nii.gz", np.where(VALUES > 9, np.float32(7), np.float32(0)))
    card = make_two(volume=VolumeSpec((1.0, 1.0, 1.0), percentiles=(1, 99)))
    (problem,) = refused(card, tmp_path)
    assert "line 3: " in problem
    assert "expected a volume with contrast, got 7 as the lower and 7 as the upper percentile of its 110 vox" in problem


def test_volumes_too_large_are_refused_before_they_are_made() -> None:
    with pytest.raises(InvalidData, match="expected at most"):
        resample(VALUES[None], None, np.full(3, 100.0), np.full(3, 0.01))
    with pytest.raises(InvalidData, match=f"expected 1 to {MAX_VOXELS} voxels"):
        check_grid((32767, 32767, 32767), np.eye(4))


def test_all_bad_rows_are_told_at_once(make_two: MakeTwo, tmp_path: Path) -> None:
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
    problems = refused(make_two([good | change for change in changes]), tmp_path)
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


def test_a_patient_with_two_labels_needs_the_cards_word(make_two: MakeTwo, tmp_path: Path) -> None:
    rows = samples("pp")
    card = make_two(rows, n_groups=1)
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
    save_nifti(path, VALUES)
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
