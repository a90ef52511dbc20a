"""Formats nifti_table and dicom_table: what a scan becomes, by hand, and the layouts of public archives."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from corpus_builder.datasets import dataset_key, examine, load_card, prepare, roles
from corpus_builder.datasets.cards import Card, DataFile, SplitSpec, VolumeSpec, cards_root, read_front_matter
from corpus_builder.datasets.formats import read
from corpus_builder.datasets.raw import RawDataset, problems_of
from corpus_builder.datasets.resize import resize, resize_masks
from corpus_builder.datasets.volumes import Volume, bounding_box, percentile_limits, resample, to_bytes
from metaquery.errors import InvalidCard

SIZE = (4, 5, 6)  # depth, height, width; scans are stored (6, 5, 4) where nothing is resampled


def scan(seed: int, shape: Sequence[int] = (6, 5, 4)) -> NDArray[np.int16]:
    """Values (x, y, z) from 0 to 250 in steps of 10."""
    return (10 * np.random.default_rng(seed).integers(0, 26, shape)).astype(np.int16)


def save_nifti(path: Path, values: NDArray[Any], affine: NDArray[Any] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)


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


Rows = Sequence[Mapping[str, str]]
Make = Callable[..., tuple[Card, Path]]


@pytest.fixture
def make(tmp_path: Path, card: Card) -> Make:
    """Write a table and give the sealed card of it and the data root; the files lie below `scans`."""

    def write(rows: Rows, *, seal: bool = True, **changes: Any) -> tuple[Card, Path]:
        table = tmp_path / "toy.csv"
        with table.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        labels = [row["label"] for row in rows]
        counts = (labels.count("cold"), labels.count("hot"))
        keys = {"images": "image", "labels": "label"} | ({"masks": "mask"} if "mask" in rows[0] else {})
        made = replace(card, format="nifti_table", folder="scans", n_dims=3, size=SIZE, n_samples=len(rows), keys=keys,
                       n_groups=len(rows), class_counts=counts, split=SplitSpec("grouped", 3, 0),
                       files=(DataFile("toy.csv", hashlib.sha256(table.read_bytes()).hexdigest()),),
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


def axes(array: NDArray[Any]) -> NDArray[Any]:
    return array.transpose(2, 1, 0)


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


def write_card(root: Path, rows: Rows, block: dict[str, Any]) -> Path:
    """Write the table `data/toy/table.csv` and the card `toy.md`, sealed, of a dataset in `data/toy`."""
    table = root / "data/toy/table.csv"
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    front = dict(read_front_matter(cards_root() / "head_ct_hemorrhage.md"))
    unused = ("files", "keys", "shape")
    labels = [row["label"] for row in rows]
    made = {key: value for key, value in front["medcurves"].items() if key not in unused}
    file = {"path": "toy/table.csv", "sha256": hashlib.sha256(table.read_bytes()).hexdigest()}
    made |= {
        "name": "toy", "classes": ["cold", "hot"], "class_counts": {name: labels.count(name) for name in set(labels)},
        "n_dims": 3, "channels": 1, "n_samples": len(rows), "n_groups": len(rows), "format": "nifti_table",
        "folder": "toy", "size": list(SIZE), "keys": {"images": "image", "masks": "mask", "labels": "label"},
        "volume": {"spacing": [1, 1, 1], "window": [0, 255]}, "split": {"kind": "grouped", "folds": 3, "seed": 0},
    } | block  # fmt: skip
    made["files"] = [file, *block.get("files", [])]
    path = root / "toy.md"
    for _ in range(2):
        path.write_text(f"---\n{yaml.safe_dump(front | {'medcurves': made})}---\n")
        problems = examine(path, root / "data").problems
        if problems:
            assert problems[0].split()[-2] == "tree_sha256:", problems
            made["tree_sha256"] = problems[0].split()[-1]
    assert not problems
    return path


def cases(root: Path, n: int, image: str, mask: str) -> Rows:
    """Write `n` cases below `data/toy`, with paths that `image` and `mask` make of a number, and give their rows."""
    rows = []
    for number in range(n):
        row = {"image": image.format(number), "mask": mask.format(number), "label": ("cold", "hot")[number % 2]}
        save_nifti(root / "data/toy" / row["image"], scan(number))
        region = np.zeros((6, 5, 4), np.uint8)
        region[1:4, 1:3, 1:3] = 1 + number % 2
        save_nifti(root / "data/toy" / row["mask"], region)
        rows.append({"patient": f"P-{number:03d}"} | row)
    return rows


def test_layout_of_worc_with_its_published_splits(tmp_path: Path) -> None:
    rows = cases(tmp_path, 14, "Lipo-{:03d}/NIFTI/image.nii.gz", "Lipo-{:03d}/segmentation.nii.gz")
    lines = [",0_train,0_test,1_train,1_test"]
    names = [row["patient"] for row in rows]
    for k in range(12):  # the lists of test groups are shorter
        tests = [names[k], names[13 - k]] if k < 2 else ["", ""]
        lines.append(f"{k},{names[k + 2]},{tests[0]},{names[k]},{tests[1]}")
    splits = tmp_path / "data/toy/splits.csv"
    splits.write_text("\n".join(lines) + "\n")
    block = {
        "keys": {"images": "image", "masks": "mask", "labels": "label", "groups": "patient"}, "size": [4, 4, 5],
        "volume": {"spacing": [1, 1, 1], "window": [0, 255], "margin": 1},
        "split": {"kind": "table", "file": "toy/splits.csv", "folds": 2, "seed": 0},
        "files": [{"path": "toy/splits.csv", "sha256": hashlib.sha256(splits.read_bytes()).hexdigest()}],
    }  # fmt: skip
    card = load_card(write_card(tmp_path, rows, block))
    prepared = prepare(card, tmp_path / "data", (4, 4, 5))
    np.testing.assert_array_equal(prepared.images[3, 0], axes(scan(3)[0:5, 0:4, 0:4]))
    first = roles(prepared, 0)
    assert first[:2].tolist() == ["test", "test"]
    assert sorted(set(first[2:].tolist())) == ["train", "val"]
    assert roles(prepared, 1)[12:].tolist() == ["test", "test"]


def test_layout_of_the_decathlon(tmp_path: Path) -> None:
    rows = cases(tmp_path, 6, "imagesTr/liver_{}.nii.gz", "labelsTr/liver_{}.nii.gz")
    keys = {"images": "image", "masks": "mask", "labels": "label"}
    block = {"keys": keys, "volume": {"spacing": [1, 1, 1], "percentiles": [0, 100]}, "group_pattern": r"_(\d+)\."}
    raw = read(load_card(write_card(tmp_path, rows, block)), tmp_path / "data")
    assert raw.groups.tolist() == list("012345")
    assert raw.masks is not None
    assert raw.masks.sum(axis=(1, 2, 3)).tolist() == [12] * 6


def test_layout_of_brats_has_a_channel_per_sequence(tmp_path: Path) -> None:
    rows = [dict(row) for row in cases(tmp_path, 6, "P{0}/P{0}_t1.nii.gz", "P{0}/P{0}_seg.nii.gz")]
    names = ("t1", "t1ce", "t2", "flair")
    for number, row in enumerate(rows):
        del row["image"]
        for shift, name in enumerate(names):
            row[name] = f"P{number}/P{number}_{name}.nii.gz"
            save_nifti(tmp_path / "data/toy" / row[name], scan(10 * number + shift))
    keys = {"images": list(names), "masks": "mask", "labels": "label", "groups": "patient"}
    card = load_card(write_card(tmp_path, rows, {"keys": keys, "channels": 4}))
    raw = read(card, tmp_path / "data")
    assert raw.images.shape == (6, *SIZE, 4)
    np.testing.assert_array_equal(raw.images[2, ..., 3], axes(scan(23)))
    assert prepare(card, tmp_path / "data", SIZE).images.shape == (6, 4, *SIZE)


def test_layout_of_hecktor_has_a_window_per_channel(tmp_path: Path) -> None:
    rows = [dict(row) for row in cases(tmp_path, 6, "imagesTr/C{}__CT.nii.gz", "labelsTr/C{}.nii.gz")]
    for number, row in enumerate(rows):
        row["pet"] = f"imagesTr/C{number}__PT.nii.gz"
        save_nifti(tmp_path / "data/toy" / row["pet"], (scan(number) / 10).astype(np.float32))
    block = {
        "keys": {"images": ["image", "pet"], "masks": "mask", "labels": "label"}, "channels": 2,
        "volume": {"spacing": [1, 1, 1], "window": [[0, 510], [0, 25.5]]},
    }  # fmt: skip
    raw = read(load_card(write_card(tmp_path, rows, block)), tmp_path / "data")
    np.testing.assert_array_equal(raw.images[1, ..., 0], axes(np.rint(scan(1) / 2)))
    np.testing.assert_array_equal(raw.images[1, ..., 1], axes(scan(1)))
