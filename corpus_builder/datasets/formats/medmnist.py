"""A MedMNIST archive: `{train,val,test}_images` and `{train,val,test}_labels`, with the official split.

The layout is that of Yang et al., MedMNIST v2, Scientific Data 2023.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from corpus_builder.datasets.archive import as_labels, locate_only, read_arrays
from corpus_builder.datasets.raw import ROLES, RawDataset, own_groups
from metaquery.errors import InvalidData

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card


def read(card: Card, data_root: Path | None) -> RawDataset:
    """Read the archive, train before val before test; InvalidInput where it is missing, InvalidData where damaged."""
    path = locate_only(card, data_root)
    keys = [f"{role}_{part}" for role in ROLES for part in ("images", "labels")]
    arrays = read_arrays(path, {key: key for key in keys})
    images = [arrays[f"{role}_images"] for role in ROLES]
    labels = [as_labels(arrays[f"{role}_labels"], path) for role in ROLES]
    shapes = [part.shape[1:] for part in images]
    if len(set(shapes)) > 1:
        raise InvalidData(f"{path}: expected samples of one shape in all roles, got {shapes}; get the file again")
    for role, pixels, targets in zip(ROLES, images, labels, strict=True):
        if len(pixels) != len(targets):
            raise InvalidData(
                f"{path}: expected as many labels as images in {role}, "
                f"got {len(pixels)} images and {len(targets)} labels; get the file again"
            )
    n = sum(map(len, labels))
    return RawDataset(
        images=np.concatenate(images),
        labels=np.concatenate(labels),
        groups=own_groups(n),
        official_roles=np.repeat(np.array(ROLES), [len(part) for part in labels]),
        origin=str(path),
    )
