"""A MedMNIST archive: `{train,val,test}_images` and `{train,val,test}_labels`, with the official split.

The layout is that of Yang et al., MedMNIST v2, Scientific Data 2023. The members of an archive are compressed and
cannot be mapped, so memory must hold all samples: up to 16 GB at 224 pixels (pathmnist_224).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from corpus_builder.datasets.archive import as_labels, locate_only, read_arrays, read_stacked
from corpus_builder.datasets.raw import ROLES, RawDataset, own_groups
from metaquery.errors import InvalidData

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card


def read(card: Card, data_root: Path | None) -> RawDataset:
    """Read the archive, train before val before test; InvalidInput where it is missing or too large for this machine's
    memory, InvalidData where it is damaged."""
    path = locate_only(card, data_root)
    given = read_arrays(path, {role: f"{role}_labels" for role in ROLES})
    one_label = _any_label if card.label_rule == "any" else as_labels
    labels = [one_label(given[role], path) for role in ROLES]
    images, lengths = read_stacked(path, [f"{role}_images" for role in ROLES])
    for role, length, targets in zip(ROLES, lengths, labels, strict=True):
        if length != len(targets):
            raise InvalidData(
                f"{path}: expected as many labels as images in {role}, "
                f"got {length} images and {len(targets)} labels; get the file again"
            )
    return RawDataset(
        images=images,
        labels=np.concatenate(labels),
        groups=own_groups(len(images)),
        official_roles=np.repeat(np.array(ROLES), lengths),
        origin=str(path),
    )


def _any_label(array: NDArray[Any], path: Path) -> NDArray[np.int64]:
    """1 where any of the binary labels of a sample, (n, labels), is set, else 0, as (n,)."""
    if array.ndim != 2 or array.shape[1] < 2 or array.dtype.kind not in "iub" or not np.isin(array, (0, 1)).all():
        raise InvalidData(
            f"{path}: expected several labels of 0 or 1 per sample, got {array.dtype} of shape {array.shape}; "
            "remove label_rule from the card or get the file again"
        )
    return np.asarray(array.any(axis=1), dtype=np.int64)
