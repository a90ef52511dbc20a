"""What the command `corpus-builder datasets` shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corpus_builder.datasets.cards import Card, load_card, set_names


def listing(data_root: Path | None) -> list[dict[str, Any]]:
    """One row per data card, by set and size; `present` says whether its files lie below `data_root` (their content is
    not checked): `yes`, `no`, or `fetch` where the missing ones can be fetched."""
    sets = set_names()
    cards = sorted(map(load_card, sets), key=lambda card: (sets[card.name], math.prod(card.shape)))
    return [_row(card, data_root) for card in cards]


def folded(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `listing` with one for each set: that of its smallest size, with all sizes and where they are."""
    names = set_names()
    sets: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        sets.setdefault(names[row["dataset"]], []).append(row)
    return [_together(name, members) for name, members in sets.items()]


def _together(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    present: dict[str, list[str]] = {}
    for row in rows:
        present.setdefault(row["present"], []).append(row["shape"])
    places = present if len(present) == 1 else (f"{place} {' '.join(shapes)}" for place, shapes in present.items())
    return {
        **rows[0],
        "dataset": name,
        "shape": " ".join(row["shape"] for row in rows),
        "present": ", ".join(places),
    }


def _row(card: Card, data_root: Path | None) -> dict[str, Any]:
    return {
        "dataset": card.name,
        "modality": card.modality,
        "shape": _shape(card.shape or card.size or card.generator.get("shape", ())) or f"{card.n_dims}-D",
        "n": card.n_samples,
        "classes": len(card.classes),
        "groups": card.n_groups,
        "licence": card.licence,
        "family": card.family,
        "present": _present(card, data_root),
    }


def _shape(shape: Sequence[int]) -> str:
    """`28²`, `28³`, `16x64x64`, or nothing."""
    equal = len(set(shape)) == 1
    return f"{shape[0]}{'²³'[len(shape) - 2]}" if equal else "x".join(map(str, shape))


def _present(card: Card, data_root: Path | None) -> str:
    needed = [card.folder] if card.folder else []
    missing = [path for path in needed if data_root is None or not (data_root / path).exists()]
    lacking = [file for file in card.files if data_root is None or not (data_root / file.path).exists()]
    if not missing and not lacking:
        return "yes"
    return "fetch" if not missing and all(file.urls for file in lacking) else "no"
