"""One npz archive whose arrays the card's `keys` name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from corpus_builder.datasets.archive import as_labels, locate_only, read_arrays
from corpus_builder.datasets.raw import RawDataset, own_groups
from metaquery.errors import InvalidData

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card


def read(card: Card, data_root: Path | None) -> RawDataset:
    """Read the archive; raises InvalidInput where it is missing and InvalidData where it is damaged."""
    path = locate_only(card, data_root)
    arrays = read_arrays(path, card.keys)
    if "class_names" in arrays and tuple(map(str, arrays["class_names"])) != card.classes:
        raise InvalidData(
            f"{path}: expected the classes {list(card.classes)}, got {arrays['class_names'].tolist()}; "
            "correct the order of the card's classes"
        )
    labels = as_labels(arrays["labels"], path)
    return RawDataset(
        images=arrays["images"],
        labels=labels,
        groups=arrays["groups"].astype(np.str_) if "groups" in arrays else own_groups(len(labels)),
        official_roles=arrays["split"].astype(np.str_) if "split" in arrays else None,
        origin=str(path),
    )
