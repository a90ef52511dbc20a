"""The card of a folder of images, one folder for each class, that nobody has described."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from corpus_builder.datasets import Card
from corpus_builder.datasets.cards import card_from
from corpus_builder.datasets.formats.image_folder import files_below
from corpus_builder.datasets.tree import tree_sha256
from metaquery.errors import InvalidInput

NOTE = (
    "every image counts as its own patient: where patients have several, write a card with group_pattern, "
    "else test values are too good"
)

_GREY = ("1", "L", "LA")


def folder_card(folder: Path, size: tuple[int, ...]) -> Card:
    """The card of the images below `folder`, which are brought to `size` (height, width).

    Hidden files and folders, and folders without a file, are left out. Raises InvalidInput where there are not at least
    two classes.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise InvalidInput(f"there is no folder {folder}: expected one that holds one folder of images for each class")
    hashes: dict[str, str] = {}
    counts: dict[str, int] = {}
    problems: list[str] = []
    for inner in sorted(item for item in folder.iterdir() if item.is_dir() and not item.name.startswith(".")):
        for below in files_below(inner, problems):
            hashes[f"{inner.name}/{below}"] = hashlib.sha256((inner / below).read_bytes()).hexdigest()
            counts[inner.name] = counts.get(inner.name, 0) + 1
    if problems:
        raise InvalidInput("; ".join(problems))
    if len(counts) < 2:
        found = f"{len(counts)} with images ({', '.join(counts) or 'none'})"
        raise InvalidInput(f"{folder}: expected at least two folders of images, one for each class, got {found}")
    return card_from(_block(folder, size, counts, hashes))


def _block(folder: Path, size: tuple[int, ...], counts: dict[str, int], hashes: dict[str, str]) -> dict[str, Any]:
    name = re.sub(r"[^a-z0-9]+", "_", folder.name.lower()).strip("_") or "images"
    name = name if name[0].isalpha() else f"images_{name}"
    first = [next(path for path in sorted(hashes) if path.startswith(f"{inner}/")) for inner in counts]
    total = sum(counts.values())
    unknown = "unknown: made from a folder of images"
    return {
        "name": name,
        "title": f"Images of {folder.name}",
        **dict.fromkeys(("modality", "body_part", "oncology"), "unknown"),
        "classes": list(counts),
        "class_counts": counts,
        "n_dims": 2,
        "channels": 1 if all(_is_grey(folder / path) for path in first) else 3,
        "n_samples": total,
        "n_groups": total,
        "family": name.replace("_", "-"),
        "licence": unknown,
        "source": unknown,
        "citation": unknown,
        "format": "image_folder",
        "folder": folder.name,
        "size": list(size),
        "tree_sha256": tree_sha256(hashes),
        "split": {"kind": "grouped", "folds": 5, "seed": 0},
    }


def _is_grey(path: Path) -> bool:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.mode in _GREY
    except UnidentifiedImageError:
        raise InvalidInput(f"{path}: expected an image that Pillow reads (png, jpg, tif, bmp): remove it") from None
