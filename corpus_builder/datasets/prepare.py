"""From a card to arrays of one size, ready to be trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus_builder.datasets import formats
from corpus_builder.datasets.cards import Augmentable, Card
from corpus_builder.datasets.raw import RawDataset
from corpus_builder.datasets.resize import resize, resize_masks
from metaquery.errors import InvalidInput
from metaquery.space import content_id

PREPARATION_VERSION = 1  # raise it whenever the same card and size would give other bytes or other roles

# Fields of a card that are not needed to read its data.
FOR_PEOPLE = ("title", "modality", "body_part", "oncology", "family", "licence", "source", "citation")


@dataclass(frozen=True, slots=True, eq=False)
class PreparedDataset:
    """All samples of a dataset at one size.

    `images` is (n, channels, *size) uint8, `labels` (n,) int64, `groups` (n,) of strings, `official_roles` as in
    `RawDataset`; `sha256` is over images, labels and groups. `masks`, (n, *size) of bool, and
    `spacing`, (n, n_dims) in millimetres at this size, are None where the source does not tell. `read` is as in
    `RawDataset`.
    """

    card: Card
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    official_roles: NDArray[np.str_] | None
    class_names: tuple[str, ...]
    sha256: str
    masks: NDArray[np.bool_] | None = None
    spacing: NDArray[np.float64] | None = None
    read: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, ...]:
        """Spatial shape of a sample."""
        return self.images.shape[2:]


def prepare(card: Card, data_root: Path | None, size: tuple[int, ...]) -> PreparedDataset:
    """Read the dataset of `card` below `data_root` and bring every sample to the spatial shape `size`.

    Where the split is grouped, groups that share a byte-identical image are joined, because such an image on both
    sides of a split would leak. Raises InvalidInput for an unusable size or a missing file, InvalidData for data
    that are damaged or contradict the card.
    """
    if len(size) != card.n_dims or min(size, default=0) < 1:
        raise InvalidInput(f"size {size} does not fit {card.name}: expected {card.n_dims} positive numbers")
    raw = formats.read(card, data_root)
    groups = split_groups(card, raw)
    channels_first = raw.images[:, None] if card.channels == 1 else np.moveaxis(raw.images, -1, 1)
    images = resize(channels_first, size)
    return PreparedDataset(
        card=card,
        images=images,
        labels=raw.labels,
        groups=groups,
        official_roles=raw.official_roles,
        class_names=card.classes,
        sha256=_fingerprint(images, raw.labels, groups),
        masks=None if raw.masks is None else resize_masks(raw.masks, size),
        spacing=None if raw.spacing is None else raw.spacing * np.divide(raw.images.shape[1 : 1 + card.n_dims], size),
        read=raw.read,
    )


def split_groups(card: Card, raw: RawDataset) -> NDArray[np.str_]:
    """The groups, (n,), that a split keeps together; those of the source where the split is published."""
    return join_identical(raw.images, raw.groups) if card.split.kind == "grouped" else raw.groups


def dataset_key(card: Card, size: tuple[int, ...], caps: Mapping[str, int | None] | None = None) -> str:
    """Content id of all that decides the prepared data and the roles, found without reading the data.

    `caps` is as for `splits.roles`; a missing cap and None are the same.
    """
    return content_id(
        {
            "version": PREPARATION_VERSION,
            "format": card.format,
            "files": [file.checksum for file in card.files],
            "keys": dict(card.keys),
            "generator": dict(card.generator),
            "classes": list(card.classes),
            "class_counts": list(card.class_counts),
            "n_groups": card.n_groups,
            "split": {"kind": card.split.kind, "folds": card.split.folds, "seed": card.split.seed},
            "size": list(size),
            "caps": {role: cap for role, cap in (caps or {}).items() if cap is not None},
            **({"label_rule": card.label_rule} if card.label_rule else {}),
            **_image_rules(card),
            **({"volume": asdict(card.volume)} if card.volume else {}),
            **({"augmentation": asdict(card.augmentation)} if card.augmentation != Augmentable() else {}),
        }
    )


def _image_rules(card: Card) -> dict[str, Any]:
    """What decides the data of a format that reads one image per file; nothing, not even a key, for other formats."""
    if not card.size:
        return {}
    return {
        "images": {
            "tree_sha256": card.tree_sha256,
            "size": list(card.size),
            "group_pattern": card.group_pattern,
            "source_names": dict(card.source_names),
        }
    }


def dataset_row(prepared: PreparedDataset) -> dict[str, Any]:
    """The dataset's row of the table `datasets`."""
    card = prepared.card
    return {
        "dataset": card.name,
        "title": card.title,
        "modality": card.modality,
        "body_part": card.body_part,
        "oncology": card.oncology,
        "task": "binary" if len(card.classes) == 2 else "multiclass",
        "n_classes": len(card.classes),
        "class_names": list(card.classes),
        "n_dims": card.n_dims,
        "channels": card.channels,
        "shape": list(prepared.size),
        "n_samples": card.n_samples,
        "n_groups": card.n_groups,
        "split_kind": card.split.kind,
        "family": card.family,
        "licence": card.licence,
        "source": card.source,
        "citation": card.citation,
        "sha256": prepared.sha256,
    }


def join_identical(images: NDArray[np.uint8], groups: NDArray[np.str_]) -> NDArray[np.str_]:
    """`groups` with those joined that share a byte-identical image; they take the first of their names."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, group_of = np.unique(groups, return_inverse=True)
    digests = np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in images])
    contents, content_of = np.unique(digests, return_inverse=True)
    nodes = len(names) + len(contents)
    links = coo_array((np.ones(len(groups)), (group_of, len(names) + content_of)), shape=(nodes, nodes))
    component = connected_components(links, directed=False)[1][: len(names)]
    first_of = np.unique(component, return_index=True)[1]  # names are sorted, so the first index is the first name
    return np.asarray(names[first_of[component]][group_of])


def _fingerprint(images: NDArray[np.uint8], labels: NDArray[np.int64], groups: NDArray[np.str_]) -> str:
    digest = hashlib.sha256(repr(images.shape).encode())
    digest.update(np.ascontiguousarray(images).data)
    digest.update(labels.astype("<i8").tobytes())
    digest.update("\0".join(groups.tolist()).encode())
    return digest.hexdigest()
