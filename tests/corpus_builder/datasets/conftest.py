"""Small datasets on disk with a card of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from file_site import Site
from numpy.typing import NDArray
from volume_files import MASK, VALUES, MakeTwo, Rows, samples, save_nifti, write_table

from corpus_builder.datasets.cards import Card, DataFile, SplitSpec, VolumeSpec

KEYS = {"images": "images", "labels": "labels", "groups": "group_ids", "class_names": "class_names"}


@pytest.fixture
def arrays() -> dict[str, NDArray[Any]]:
    """40 grey images of 10 groups, two classes, as an npz dataset holds them."""
    rng = np.random.default_rng(0)
    return {
        "images": rng.integers(0, 256, (40, 12, 10), dtype=np.uint8),
        "labels": np.tile([0, 1], 20),
        "group_ids": np.repeat([f"p{i}" for i in range(10)], 4),
        "class_names": np.array(["cold", "hot"]),
    }


@pytest.fixture
def card() -> Card:
    """The card of `arrays`, without its file."""
    return Card(
        name="toy", title="Toy", modality="CT", body_part="lung", oncology="no", classes=("cold", "hot"), n_dims=2,
        channels=1, n_samples=40, n_groups=10, class_counts=(20, 20), family="toy", licence="none", source="a test",
        citation="nobody", format="npz", split=SplitSpec("grouped", 5, 0), keys=KEYS,
    )  # fmt: skip


Save = Callable[..., tuple[Card, Path]]


@pytest.fixture
def save(tmp_path: Path, card: Card) -> Save:
    """Write arrays to an npz and give the card of that file, checksum included, and the data root."""

    def write(arrays: dict[str, Any], **changes: Any) -> tuple[Card, Path]:
        path = tmp_path / "toy" / "data.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez_compressed(path, **arrays)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return replace(card, files=(DataFile("toy/data.npz", digest),), **changes), tmp_path

    return write


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, which take no time here."""
    waited: list[float] = []
    monkeypatch.setattr("corpus_builder.datasets.download.sleep", waited.append)
    return waited


@pytest.fixture
def make_two(tmp_path: Path, card: Card) -> MakeTwo:
    """Write two sound samples of two patients, with masks and two channels, and a table of `rows`; give the card."""
    for name in "ab":
        save_nifti(tmp_path / f"{name}.nii.gz", VALUES + ord(name))
        save_nifti(tmp_path / f"{name}_t2.nii.gz", 2 * VALUES)
        save_nifti(tmp_path / f"{name}_seg.nii.gz", MASK)

    def write(rows: Rows | None = None, **changes: Any) -> Card:
        if rows is None:
            rows = samples("ab")
        digest = write_table(tmp_path / "toy.csv", rows)
        keys = {"images": ["t1", "t2"], "labels": "label", "masks": "seg", "groups": "id"}
        made = replace(
            card, format="nifti_table", n_dims=3, channels=2, size=(4, 5, 6), n_samples=2, n_groups=2, keys=keys,
            class_counts=(1, 1), split=SplitSpec("grouped", 3, 0), files=(DataFile("toy.csv", digest),),
            tree_sha256="0" * 64, volume=VolumeSpec((1.0, 1.0, 1.0), windows=((0, 255),) * 2, margin=1.0),
        )  # fmt: skip
        return replace(made, **changes)

    return write
