from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus_builder.datasets.cards import Card, DataFile, SplitSpec
from corpus_builder.datasets.formats import format_names, read
from metaquery.errors import InvalidCard, InvalidData, InvalidInput, MedCurvesError

Arrays = dict[str, Any]


def refusal(card: Card, root: Path | None, kind: type[MedCurvesError] = InvalidData) -> str:
    """The message with which reading is refused: always one line."""
    with pytest.raises(MedCurvesError) as caught:
        read(card, root)
    assert type(caught.value) is kind
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_formats_are_the_modules() -> None:
    expected = ("dicom_table", "image_folder", "image_table", "medmnist", "nifti_table", "npz", "phantom")
    assert format_names() == expected


def test_npz_round_trip(arrays: Arrays, save: Any) -> None:
    raw = read(*save(arrays))
    np.testing.assert_array_equal(raw.images, arrays["images"])
    np.testing.assert_array_equal(raw.labels, arrays["labels"])
    assert raw.labels.dtype == np.int64
    assert raw.groups.tolist() == arrays["group_ids"].tolist()
    assert raw.official_roles is None


def test_without_groups_each_sample_is_its_own(arrays: Arrays, save: Any, card: Card) -> None:
    keys = {purpose: key for purpose, key in card.keys.items() if purpose != "groups"}
    raw = read(*save(arrays, keys=keys, n_groups=40))
    assert len(set(raw.groups.tolist())) == 40
    assert sorted(raw.groups.tolist()) == raw.groups.tolist()


def test_missing_file_says_where_it_looked_and_what_to_give(arrays: Arrays, save: Any, tmp_path: Path) -> None:
    card, _ = save(arrays)
    elsewhere = tmp_path / "elsewhere"
    message = refusal(card, elsewhere, InvalidInput)
    for part in (str(elsewhere / "toy" / "data.npz"), "'toy'", "--data-root", "MEDCURVES_DATA"):
        assert part in message
    assert "no data root given" in refusal(card, None, InvalidInput)


def test_another_checksum_is_refused(arrays: Arrays, save: Any) -> None:
    card, root = save(arrays)
    path = root / "toy" / "data.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    message = refusal(card, root)
    assert str(path) in message
    assert f"expected sha256 {card.files[0].sha256}" in message


def with_bytes(save: Any, arrays: Arrays, change: Callable[[bytes], bytes]) -> tuple[Card, Path]:
    """A file with changed bytes whose checksum the card has, as if the publisher's copy were damaged."""
    import hashlib

    card, root = save(arrays)
    path = root / "toy" / "data.npz"
    path.write_bytes(change(path.read_bytes()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return replace(card, files=(DataFile("toy/data.npz", digest),)), root


def one_array(_: bytes) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content[: len(content) // 2], "cannot be read"),
        (lambda content: content[:200] + bytes([content[200] ^ 255]) + content[201:], "cannot be read"),
        (lambda content: b"", "cannot be read"),
        (lambda content: b"<html>not found</html>", "cannot be read"),
        (one_array, "got a single array"),
    ],
    ids=["truncated", "flipped byte", "empty", "web page", "npy"],
)
def test_damaged_archive(arrays: Arrays, save: Any, change: Callable[[bytes], bytes], reason: str) -> None:
    card, root = with_bytes(save, arrays, change)
    message = refusal(card, root)
    assert str(root / "toy" / "data.npz") in message
    assert reason in message


def test_pickled_objects_are_never_loaded(arrays: Arrays, save: Any) -> None:
    message = refusal(*save(arrays | {"labels": np.array([{"a": 1}] * 40, dtype=object)}))
    assert "plain arrays" in message
    assert "Object arrays cannot be loaded" in message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda a: {"images": a["images"][:, :, :, None]}, "dimensions of the images 3, got 4"),
        (lambda a: {"images": a["images"].astype(np.float32)}, "type of the images uint8, got float32"),
        (lambda a: {"images": np.uint8(3)}, "one row per sample, got single values in ['images']"),
        (lambda a: {"images": a["images"][:39]}, "number of images 40, got 39"),
        (lambda a: {"labels": a["labels"][:39]}, "shape of the labels (40,), got (39,)"),
        (lambda a: {"labels": a["labels"].astype(float)}, "one whole number per sample as label, got float64"),
        (lambda a: {"labels": np.eye(2, dtype=int)[a["labels"]]}, "as label, got int64 of shape (40, 2)"),
        (lambda a: {"labels": a["labels"] + 1}, "labels from 0 to 1 (cold, hot), got also [2]"),
        (lambda a: {"labels": a["labels"] - 1}, "labels from 0 to 1 (cold, hot), got also [-1]"),
        (lambda a: {"labels": np.r_[0, 0, a["labels"][2:]]}, "{'cold': 20, 'hot': 20}, got {'cold': 21, 'hot': 19}"),
        (lambda a: {"group_ids": a["group_ids"][:39]}, "shape of the groups (40,), got (39,)"),
        (lambda a: {"group_ids": np.repeat("p", 40)}, "number of groups 10, got 1"),
        (lambda a: {"class_names": a["class_names"][::-1]}, "classes ['cold', 'hot'], got ['hot', 'cold']"),
    ],
)
def test_arrays_that_contradict_the_card(
    arrays: Arrays, save: Any, change: Callable[[Arrays], Arrays], reason: str
) -> None:
    card, root = save(arrays | change(arrays))
    message = refusal(card, root)
    assert reason in message
    assert str(root / "toy" / "data.npz") in message


def test_missing_key_names_the_keys_there_are(arrays: Arrays, save: Any) -> None:
    del arrays["group_ids"]
    assert "['group_ids'], got only ['class_names', 'images', 'labels']" in refusal(*save(arrays))


def test_channels_are_the_last_axis(arrays: Arrays, save: Any) -> None:
    arrays["images"] = np.repeat(arrays["images"][..., None], 3, axis=3)
    assert read(*save(arrays, channels=3)).images.shape == (40, 12, 10, 3)
    assert "channels (last axis of the images) 4, got 3" in refusal(*save(arrays, channels=4))


def test_official_roles_must_be_the_three(arrays: Arrays, save: Any, card: Card) -> None:
    keys = {**card.keys, "split": "orig_split"}
    roles = np.repeat(["train", "val", "test"], [20, 10, 10]).astype("U8")
    official = {"keys": keys, "split": SplitSpec("official")}
    found = read(*save(arrays | {"orig_split": roles}, **official)).official_roles
    assert found is not None
    assert found.tolist() == roles.tolist()
    roles[-1] = "holdout"
    message = refusal(*save(arrays | {"orig_split": roles}, **official))
    assert "official roles ['test', 'train', 'val'], got ['holdout', 'test', 'train', 'val']" in message


def test_one_file_is_one_file(arrays: Arrays, save: Any) -> None:
    card, root = save(arrays)
    assert "expects one file, got 2" in refusal(replace(card, files=card.files * 2), root, InvalidCard)


@pytest.fixture
def medmnist() -> Arrays:
    rng = np.random.default_rng(0)
    parts: Arrays = {}
    for role, n in (("train", 24), ("val", 6), ("test", 10)):
        parts[f"{role}_images"] = rng.integers(0, 256, (n, 8, 8, 8), dtype=np.uint8)
        parts[f"{role}_labels"] = np.tile([[0], [1]], (n // 2, 1)).astype(np.uint8)
    return parts


MEDMNIST = {"format": "medmnist", "keys": {}, "n_dims": 3, "n_groups": 40, "split": SplitSpec("official")}


def test_medmnist_is_read_in_the_order_of_the_roles(medmnist: Arrays, save: Any) -> None:
    raw = read(*save(medmnist, **MEDMNIST))
    np.testing.assert_array_equal(raw.images[24:30], medmnist["val_images"])
    assert raw.labels.shape == (40,)
    assert raw.official_roles is not None
    assert raw.official_roles.tolist() == ["train"] * 24 + ["val"] * 6 + ["test"] * 10


def test_medmnist_parts_must_fit(medmnist: Arrays, save: Any) -> None:
    short = medmnist | {"val_labels": medmnist["val_labels"][:5]}
    assert "in val, got 6 images and 5 labels" in refusal(*save(short, **MEDMNIST))
    other = medmnist | {"test_images": medmnist["test_images"][:, :7]}
    assert "one shape in all roles" in refusal(*save(other, **MEDMNIST))
    del medmnist["val_images"]
    assert "['val_images']" in refusal(*save(medmnist, **MEDMNIST))
