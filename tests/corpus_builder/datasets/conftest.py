"""Small datasets on disk with a card of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from corpus_builder.datasets.cards import Card, DataFile, SplitSpec

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
