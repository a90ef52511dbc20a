"""What the command `corpus-builder datasets describe` shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corpus_builder.datasets import load_card, prepare, roles
from corpus_builder.metafeatures.measure import measure, undefined_notes
from corpus_builder.metafeatures.part import TrainingPart
from corpus_builder.metafeatures.registry import DESCRIPTORS
from metaquery.errors import InvalidInput

USUAL_SIZES = {2: (64, 64), 3: (32, 32, 32)}


def describe(
    name_or_path: str | Path, data_root: Path | None, weights_root: Path | None, size: str | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """One row per descriptor of the training part of fold 0, and why some have no value, one line for each reason.

    `size` is like `64x64` or `32x32x32`, which are also what None stands for. Raises InvalidInput for a size that
    cannot be used or a missing file, InvalidData for data that are damaged or contradict the card.
    """
    card = load_card(name_or_path)
    data = prepare(card, data_root, USUAL_SIZES[card.n_dims] if size is None else _parsed(size))
    measured = measure(TrainingPart.of(data, roles(data, 0), weights_root))
    rows = [
        {
            "descriptor": row["name"],
            "value": "null" if row["value"] is None else f"{row['value']:.6g}",
            "seconds": f"{row['seconds']:.3f}",
            "meaning": DESCRIPTORS[row["name"]].meaning,
        }
        for row in measured.rows
    ]
    return rows, undefined_notes([(card.name, measured)])


def _parsed(size: str) -> tuple[int, ...]:
    parts = size.split("x")
    if not all(part.isdecimal() for part in parts):
        raise InvalidInput(
            f"size {size!r} is not usable: expected whole numbers with x between, like 64x64 or 32x32x32"
        )
    return tuple(map(int, parts))
