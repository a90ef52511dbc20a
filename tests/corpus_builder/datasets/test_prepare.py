from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as st_arrays
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from corpus_builder.datasets import dataset_key, dataset_row, load_card, prepare
from corpus_builder.datasets.cards import Card, DataFile, SplitSpec
from corpus_builder.datasets.prepare import join_identical
from corpus_builder.datasets.resize import resize
from metaquery.errors import InvalidInput
from metaquery.schema import table
from metaquery.schema.tables import from_rows

Arrays = dict[str, Any]


@settings(max_examples=30, deadline=None)
@given(
    images=st_arrays(
        np.uint8, st.tuples(st.just(3), st.integers(1, 2), st.integers(4, 9), st.integers(4, 9), st.integers(4, 9))
    ),
    size=st.tuples(st.integers(2, 12), st.integers(2, 12), st.integers(2, 12)),
)
def test_resizing_is_that_of_scipy_on_each_sample(images: NDArray[Any], size: tuple[int, ...]) -> None:
    result = resize(images, size)
    factors = np.divide(images.shape[2:], size)
    for sample in range(3):
        for channel in range(images.shape[1]):
            smooth = gaussian_filter(
                images[sample, channel].astype(float), np.maximum(0, (factors - 1) / 2), mode="mirror"
            )
            direct = zoom(smooth, 1 / factors, order=1, mode="mirror", grid_mode=True)
            assert np.abs(direct - result[sample, channel]).max() <= 0.5 + 1e-6


def test_halving_a_checkerboard_gives_grey_and_doubling_a_step_interpolates() -> None:
    board = np.indices((8, 8)).sum(0) % 2 * np.uint8(200)
    inside = resize(board.astype(np.uint8)[None, None], (4, 4))
    assert set(inside[0, 0, 1:3, 1:3].reshape(-1).tolist()) == {100}
    step = np.array([[0, 100]], dtype=np.uint8).repeat(2, axis=0)
    assert resize(step[None, None], (2, 4))[0, 0, 0, 1:3].tolist() == [
        25,
        75,
    ]  # a quarter and three quarters of the way


def test_same_size_changes_nothing_and_constants_stay(arrays: Arrays) -> None:
    images = arrays["images"][:, None]
    np.testing.assert_array_equal(resize(images, (12, 10)), images)
    assert set(resize(np.full((2, 1, 9, 7), 255, np.uint8), (4, 13)).reshape(-1).tolist()) == {255}


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch, arrays: Arrays) -> None:
    whole = resize(arrays["images"][:, None], (5, 6))
    monkeypatch.setattr("corpus_builder.datasets.resize._CHUNK_BYTES", 1)
    np.testing.assert_array_equal(resize(arrays["images"][:, None], (5, 6)), whole)


def test_prepared_arrays(arrays: Arrays, save: Any) -> None:
    card, root = save(arrays)
    prepared = prepare(card, root, (6, 5))
    assert prepared.images.shape == (40, 1, 6, 5)
    assert prepared.images.dtype == np.uint8
    assert prepared.size == (6, 5)
    assert prepared.class_names == ("cold", "hot")
    again = prepare(card, root, (6, 5))
    assert again.sha256 == prepared.sha256
    np.testing.assert_array_equal(again.images, prepared.images)


def test_channels_come_first(arrays: Arrays, save: Any) -> None:
    arrays["images"] = np.stack([arrays["images"], arrays["images"] // 2, arrays["images"] // 4], axis=-1)
    prepared = prepare(*save(arrays, channels=3), (12, 10))
    np.testing.assert_array_equal(prepared.images[:, 2], arrays["images"][..., 2])


def test_fingerprint_covers_images_labels_and_groups(arrays: Arrays, save: Any) -> None:
    def fingerprint(**changes: Any) -> str:
        return prepare(*save(arrays | changes), (12, 10)).sha256

    images = arrays["images"].copy()
    images[7, 3, 3] ^= 1
    labels = arrays["labels"].copy()
    labels[:2] = labels[1::-1]
    groups = np.char.replace(arrays["group_ids"], "p3", "q3")
    prints = {fingerprint(), fingerprint(images=images), fingerprint(labels=labels), fingerprint(group_ids=groups)}
    assert len(prints) == 4


@pytest.mark.parametrize("size", [(6,), (6, 5, 4), (0, 5)])
def test_unusable_size(card: Card, size: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="expected 2 positive numbers"):
        prepare(card, None, size)


def test_groups_that_share_an_image_are_joined_transitively() -> None:
    images = np.array([1, 2, 2, 3, 3, 4, 5], dtype=np.uint8).reshape(7, 1, 1)
    groups = np.array(["c", "c", "b", "b", "a", "d", "e"])
    assert join_identical(images, groups).tolist() == ["a", "a", "a", "a", "a", "d", "e"]


def test_joining_is_part_of_preparation_but_not_of_official_splits(arrays: Arrays, save: Any, card: Card) -> None:
    arrays["images"][39] = arrays["images"][0]
    assert prepare(*save(arrays), (12, 10)).groups[39] == "p0"
    keys = {**card.keys, "split": "orig_split"}
    arrays["orig_split"] = np.repeat(["train", "val", "test"], [20, 8, 12])
    assert prepare(*save(arrays, keys=keys, split=SplitSpec("official")), (12, 10)).groups[39] == "p9"


def test_dataset_row_is_a_row_of_the_table(arrays: Arrays, save: Any) -> None:
    prepared = prepare(*save(arrays), (6, 5))
    rows = from_rows(table("datasets").arrow_schema(), [dataset_row(prepared)], what="datasets").to_pylist()
    assert rows[0]["shape"] == [6, 5]
    assert rows[0]["task"] == "binary"
    assert rows[0]["n_groups"] == 10
    assert rows[0]["sha256"] == prepared.sha256


def test_task_with_more_classes_is_multiclass(arrays: Arrays, save: Any) -> None:
    arrays["labels"][0] = 2
    arrays["class_names"] = np.array(["cold", "hot", "odd"])
    card = {"classes": ("cold", "hot", "odd"), "class_counts": (19, 20, 1)}
    assert dataset_row(prepare(*save(arrays, **card), (6, 5)))["task"] == "multiclass"


def test_dataset_key_changes_with_all_that_decides_the_data_and_with_nothing_else() -> None:
    card = load_card("ham10000")
    key = dataset_key(card, (64, 64))
    assert key == dataset_key(replace(card, title="x", licence="x", source="x"), (64, 64), {"train": None})
    others = [
        dataset_key(card, (32, 32)),
        dataset_key(card, (64, 64), {"train": 100}),
        dataset_key(card, (64, 64), {"val": 100}),
        dataset_key(replace(card, split=SplitSpec("grouped", 5, 1)), (64, 64)),
        dataset_key(replace(card, files=(DataFile(card.files[0].path, "0" * 64),)), (64, 64)),
        dataset_key(replace(card, keys={**card.keys, "groups": "image_id"}), (64, 64)),
        dataset_key(replace(card, classes=card.classes[::-1]), (64, 64)),
    ]
    assert len({key, *others}) == len(others) + 1
    phantom = load_card("phantom_nodules3d")
    harder = replace(phantom, generator={**phantom.generator, "difficulty": 0.9})
    assert dataset_key(phantom, (24, 24, 24)) != dataset_key(harder, (24, 24, 24))
