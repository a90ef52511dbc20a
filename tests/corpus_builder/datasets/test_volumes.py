"""Formats nifti_table and dicom_table: what a scan becomes, by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from volume_files import SIZE, Rows, axes, save_nifti, scan, write_table

from corpus_builder.datasets import dataset_key, prepare
from corpus_builder.datasets.cards import Card, DataFile, SplitSpec, VolumeSpec
from corpus_builder.datasets.formats import read
from corpus_builder.datasets.raw import RawDataset, problems_of
from corpus_builder.datasets.resize import resize, resize_masks
from corpus_builder.datasets.volumes import Volume, bounding_box, percentile_limits, resample, to_bytes
from metaquery.errors import InvalidCard


def save_series(directory: Path, values: NDArray[Any], *, names: Sequence[str] = (), **changes: Any) -> None:
    """Write `values` (x, y, z) in RAS, 1 mm apart, as one DICOM file per slice; stored as 2 v + 7."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    directory.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    for k in range(values.shape[2]):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        item = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        item.SOPClassUID, item.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        item.SeriesInstanceUID, item.Modality, item.InstanceNumber = series, "CT", values.shape[2] - k
        item.ImagePositionPatient, item.ImageOrientationPatient = [0.0, 0.0, float(k)], [-1, 0, 0, 0, -1, 0]
        item.PixelSpacing, item.SliceThickness = [1.0, 1.0], 1.0
        item.Rows, item.Columns = values.shape[1], values.shape[0]
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 16, 16, 15, 1
        item.RescaleSlope, item.RescaleIntercept = 0.5, -3.5
        item.PixelData = (2 * values[:, :, k].T + 7).astype("<i2").tobytes()
        for key, change in changes.items():
            setattr(item, key, change(k) if callable(change) else change)
        item.save_as(directory / (names[k] if names else f"{k}.dcm"), enforce_file_format=True)


Make = Callable[..., tuple[Card, Path]]


@pytest.fixture
def make(tmp_path: Path, card: Card) -> Make:
    """Write a table and give the sealed card of it and the data root; the files lie below `scans`."""

    def write(rows: Rows, *, seal: bool = True, **changes: Any) -> tuple[Card, Path]:
        digest = write_table(tmp_path / "toy.csv", rows)
        labels = [row["label"] for row in rows]
        counts = (labels.count("cold"), labels.count("hot"))
        keys = {"images": "image", "labels": "label"} | ({"masks": "mask"} if "mask" in rows[0] else {})
        made = replace(card, format="nifti_table", folder="scans", n_dims=3, size=SIZE, n_samples=len(rows), keys=keys,
                       n_groups=len(rows), class_counts=counts, split=SplitSpec("grouped", 3, 0),
                       files=(DataFile("toy.csv", digest),),
                       volume=VolumeSpec((1.0, 1.0, 1.0), windows=((0, 255),)))  # fmt: skip
        made = replace(made, **changes)
        return (sealed(made, tmp_path) if seal else made), tmp_path

    return write


def sealed(card: Card, root: Path) -> Card:
    """The card with the checksum that the refusal tells."""
    with pytest.raises(InvalidCard, match=r"add {2}tree_sha256: [0-9a-f]{64}") as caught:
        read(replace(card, tree_sha256=""), root)
    return replace(card, tree_sha256=problems_of(caught.value)[0].split()[-1])


def one(make: Make, root: Path, values: NDArray[Any], affine: NDArray[Any] | None = None, **changes: Any) -> RawDataset:
    """The dataset whose one sample is `values`, with the mask `mask` and other changes of the card."""
    save_nifti(root / "scans/a.nii.gz", values, affine)
    row = {"image": "a.nii.gz", "label": "hot"}
    if (mask := changes.pop("mask", None)) is not None:
        save_nifti(root / "scans/m.nii.gz", mask.astype(np.uint8), affine)
        row["mask"] = "m.nii.gz"
    return read(*make([row], **changes))


def spec(**changes: Any) -> VolumeSpec:
    return replace(VolumeSpec((1.0, 1.0, 1.0), windows=((0, 255),)), **changes)


def test_axes_are_depth_height_width_whatever_the_file_stores(make: Make, tmp_path: Path) -> None:
    values = scan(0)
    save_nifti(tmp_path / "scans/ras.nii.gz", values)
    flipped = np.diag([-1.0, -1.0, 1.0, 1.0])
    flipped[:3, 3] = 5, 4, 0
    save_nifti(tmp_path / "scans/lps.nii", values[::-1, ::-1], flipped)
    swapped = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, -1, 0, 3], [0, 0, 0, 1.0]])  # stored as (y, -z, x)
    save_nifti(tmp_path / "scans/pir.nii.gz", values.transpose(1, 2, 0)[:, ::-1], swapped)
    paths = ("ras.nii.gz", "lps.nii", "pir.nii.gz")
    raw = read(*make([{"image": path, "label": label} for path, label in zip(paths, ("cold", "hot", "hot"))]))
    assert raw.images.shape == (3, *SIZE)
    assert raw.labels.tolist() == [0, 1, 1]
    for image in raw.images:
        np.testing.assert_array_equal(image, axes(values))
    assert raw.masks is None
    assert raw.spacing is not None
    assert raw.spacing.tolist() == [[1.0, 1.0, 1.0]] * 3


def test_slope_and_intercept_of_the_header_are_applied(make: Make, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((6, 5, 4)), np.eye(4))
    image.header.set_data_dtype(np.int16)
    path = tmp_path / "scans/a.nii"
    path.parent.mkdir()
    nibabel.save(image, path)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([2.0, -1000.0], "<f4").tobytes()  # scl_slope, scl_inter
    content[352:354] = np.array([600], "<i2").tobytes()  # voxel (0, 0, 0): 2 * 600 - 1000 = 200
    path.write_bytes(content)
    raw = read(*make([{"image": "a.nii", "label": "hot"}], volume=spec(windows=((-1000, 1000),))))
    assert raw.images[0, 0, 0, 0] == 153  # 255 * 1200 / 2000
    assert raw.images[0, 1, 1, 1] == 0


def test_window_maps_linearly_and_clips(make: Make, tmp_path: Path) -> None:
    values = np.full((6, 5, 4), -160, np.float32)
    values[0, :, 0] = -500, -160, 40, 240, 3000
    raw = one(make, tmp_path, values, volume=spec(windows=((-160, 240),)))
    assert raw.images[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]  # 127.5 is rounded to the even number


def test_percentiles_are_those_of_the_whole_scan_without_zeros() -> None:
    values = np.zeros((5, 5, 5), np.float32)
    values.reshape(-1)[:101] = np.arange(1, 102)
    volume = Volume(values, np.eye(4))
    assert percentile_limits(volume, (5, 95)) == (6.0, 96.0)
    np.testing.assert_array_equal(to_bytes(np.array([0, 6, 51, 96, 101], np.float32), 6, 96), [0, 0, 128, 255, 255])


def test_percentiles_do_not_depend_on_the_crop(make: Make, tmp_path: Path) -> None:
    values = np.arange(120, dtype=np.float32).reshape(6, 5, 4)
    mask = np.zeros((6, 5, 4))
    mask[0, 0, :2] = 1
    raw = one(make, tmp_path, values, mask=mask, size=(2, 1, 1),
              volume=VolumeSpec((1.0, 1.0, 1.0), percentiles=(0, 100), margin=0.0))  # fmt: skip
    assert raw.images.reshape(-1).tolist() == [0, 0]  # of the values 0 and 1 of 119: the lowest that is not zero is 1


def test_resampling_keeps_the_first_centre_and_interpolates(make: Make, tmp_path: Path) -> None:
    values = np.zeros((5, 1, 1), np.float32)
    values[:, 0, 0] = 0, 100, 200, 100, 50
    raw = one(make, tmp_path, values, np.diag([2.0, 1, 1, 1]), size=(1, 1, 9))
    assert raw.images.reshape(-1).tolist() == [0, 50, 100, 150, 200, 150, 100, 75, 50]
    coarse = one(make, tmp_path, values, np.diag([2.0, 1, 1, 1]), size=(1, 1, 3), volume=spec(spacing=(1, 1, 4)))
    assert coarse.images.reshape(-1).tolist() == [0, 200, 50]


def test_spacing_is_in_the_order_of_the_axes_and_after_resizing(make: Make, tmp_path: Path) -> None:
    affine = np.diag([1.0, 2.0, 4.0, 1.0])
    raw = one(make, tmp_path, scan(0, (8, 4, 3)), affine, size=(3, 4, 4), volume=spec(spacing=(4.0, 2.0, 1.0)))
    assert raw.spacing is not None
    assert raw.spacing.tolist() == [[4.0, 2.0, 2.0]]  # width: 8 voxels of 1 mm become 4
    finer = one(make, tmp_path, scan(0, (8, 4, 3)), affine, size=(5, 7, 8), volume=spec(spacing=(2.0, 1.0, 1.0)))
    assert finer.spacing is not None
    assert finer.spacing.tolist() == [[2.0, 1.0, 1.0]]  # (3 - 1) * 4 / 2 + 1 = 5 and (4 - 1) * 2 + 1 = 7 voxels
    prepared = prepare(*make([{"image": "a.nii.gz", "label": "hot"}], size=(5, 7, 8)), (5, 7, 4))
    assert prepared.spacing is not None
    assert prepared.spacing.tolist() == [
        [1.8, 1.0, 2.0]
    ]  # 9, 7 and 8 voxels of 1 mm, first 5, 7 and 8, then 5, 7 and 4


@pytest.mark.parametrize(("n", "factor"), [(5, 2.0), (17, 2.0), (33, 3.0), (9, 0.5), (10, 0.7)])
def test_a_region_takes_the_nearest_voxel_and_the_next_where_two_are_as_near(n: int, factor: float) -> None:
    region = np.random.default_rng(n).random((n, 2, 3)) < 0.5
    channels = region[None].astype(np.float32)
    old, new = np.array([factor, 1, 1]), np.ones(3)
    values, nearest, spacing = resample(channels, region, old, new)
    assert nearest is not None
    assert nearest.shape == values.shape[1:]
    expected = [region[min(n - 1, int(np.floor(i / factor + 0.5 + 1e-9)))] for i in range(len(nearest))]
    np.testing.assert_array_equal(nearest, expected)
    np.testing.assert_allclose(spacing, new)
    decided = np.abs(values[0] - 0.5) > 1e-4  # where the interpolated region is clear, both agree
    inside = slice(0, int((n - 1) * factor) + 1)
    np.testing.assert_array_equal((values[0] > 0.5)[inside][decided[inside]], nearest[inside][decided[inside]])


def test_box_of_the_mask_with_a_margin_in_millimetres() -> None:
    region = np.zeros((10, 10, 10), np.bool_)
    region[4:6, 0, 7] = True
    assert bounding_box(region, np.zeros(3)) == (slice(4, 6), slice(0, 1), slice(7, 8))
    margin = 3.0 / np.array([1.0, 2.0, 0.9])  # 3 voxels, 1.5 and 3.33: rounded up, and cut off at the border
    assert bounding_box(region, margin) == (slice(1, 9), slice(0, 3), slice(3, 10))


def test_cropping_keeps_the_mask_on_the_image(make: Make, tmp_path: Path) -> None:
    values = scan(3, (12, 10, 8))
    mask = np.zeros((12, 10, 8), np.uint8)
    mask[5:8, 3:6, 2:4] = 1
    mask[0, 0, 0] = 2
    raw = one(make, tmp_path, values, mask=mask, size=(4, 5, 5), volume=spec(margin=1.0, mask_label=1))
    np.testing.assert_array_equal(raw.images[0], axes(values[4:9, 2:7, 1:5]))
    assert raw.masks is not None
    np.testing.assert_array_equal(raw.masks[0], axes(mask[4:9, 2:7, 1:5] == 1))
    whole = one(make, tmp_path, values, mask=mask, size=(8, 10, 12))
    assert whole.masks is not None
    np.testing.assert_array_equal(whole.masks[0], axes(mask > 0))
    np.testing.assert_array_equal(whole.images[0], axes(values))


def test_images_and_masks_go_through_the_same_resizing(make: Make, tmp_path: Path) -> None:
    values, mask = scan(1, (9, 8, 7)), np.random.default_rng(1).random((9, 8, 7)) < 0.6
    raw = one(make, tmp_path, values, mask=mask)
    assert raw.masks is not None
    np.testing.assert_array_equal(raw.images, resize(axes(values)[None, None].astype(np.uint8), SIZE)[:, 0])
    np.testing.assert_array_equal(raw.masks, resize_masks(axes(mask)[None], SIZE))


def test_a_small_region_does_not_vanish() -> None:
    masks = np.zeros((2, 16, 16), np.bool_)
    masks[0, 5, 6] = True
    small = resize_masks(masks, (4, 4))
    assert np.argwhere(small[0]).tolist() == [[1, 1]]
    assert not small[1].any()


def test_dicom_series_equals_the_nifti(make: Make, tmp_path: Path) -> None:
    values = scan(5)
    save_nifti(tmp_path / "scans/ras.nii.gz", values)
    # In LPS the first pixel is at (0, 0): x and y run to the left and the back, and are turned.
    save_series(tmp_path / "scans/a/series", values, names=["b.dcm", "d.dcm", "a.dcm", "c.dcm"],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0])  # fmt: skip
    (tmp_path / "scans/a/series/LICENSE").write_text("not a slice")
    save_series(tmp_path / "scans/b", values, names=["1", "2", "3", "4"])
    rows = [{"image": "a/series", "label": "cold"}, {"image": "b", "label": "hot"}]
    raw = read(*make(rows, format="dicom_table"))
    np.testing.assert_array_equal(raw.images[0], axes(values[::-1, ::-1]))
    np.testing.assert_array_equal(raw.images[1], axes(values))
    assert raw.spacing is not None
    np.testing.assert_allclose(raw.spacing, 1.0, atol=1e-6)


def test_dicom_rescaling_of_each_slice_spacing_and_mask(make: Make, tmp_path: Path) -> None:
    values = scan(6)
    save_series(tmp_path / "scans/a", values, PixelSpacing=[2.0, 3.0], RescaleSlope=lambda k: 1.0 if k == 2 else 0.5,
                RescaleIntercept=lambda k: -7.0 if k == 2 else -3.5,
                ImagePositionPatient=lambda k: [0, 0, -4.0 * k])  # fmt: skip
    mask = np.zeros((6, 5, 4), np.uint8)
    mask[1:3, 2, 0] = 1  # voxel k = 0 lies lowest, where the last slice is
    affine = np.diag([3.0, 2.0, 4.0, 1.0])
    affine[2, 3] = -12
    save_nifti(tmp_path / "scans/m.nii", mask, affine)
    rows = [{"image": "a", "label": "hot", "mask": "m.nii"}]
    raw = read(*make(rows, format="dicom_table", volume=spec(spacing=(4.0, 2.0, 3.0), windows=((0, 510),))))
    expected = values[:, :, ::-1].astype(float)
    expected[:, :, 1] *= 2
    np.testing.assert_array_equal(raw.images[0], axes(np.rint(expected / 2)))
    assert raw.masks is not None
    np.testing.assert_array_equal(raw.masks[0], axes(mask > 0))


def test_changed_volumes_and_masks_are_noticed_and_in_the_key(make: Make, tmp_path: Path) -> None:
    mask = np.ones((6, 5, 4), np.uint8)
    one(make, tmp_path, scan(0), mask=mask)
    rows = [{"image": "a.nii.gz", "label": "hot", "mask": "m.nii.gz"}]
    card, root = make(rows)
    mask[0] = 0
    save_nifti(root / "scans/m.nii.gz", mask)
    with pytest.raises(Exception, match=f"expected tree_sha256 {card.tree_sha256} as in data card 'toy', got"):
        read(card, root)
    changed = make(rows)[0]
    others = [changed] + [
        replace(card, volume=spec(**change)) for change in ({"spacing": (2, 1, 1)}, {"margin": 1.0}, {"mask_label": 1},
                                                            {"windows": ((0, 9),)})
    ]  # fmt: skip
    keys = {dataset_key(other, SIZE) for other in (card, *others)}
    assert len(keys) == 6
    assert dataset_key(replace(card, mixed_groups=True), SIZE) == dataset_key(card, SIZE)
