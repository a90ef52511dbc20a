"""What the command `corpus-builder datasets` shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corpus_builder.datasets.cards import card_names, load_card


def listing(data_root: Path | None) -> list[dict[str, Any]]:
    """One row per data card; `present` says whether its files lie below `data_root` (their content is not checked)."""
    rows = []
    for card in map(load_card, card_names()):
        needed = [file.path for file in card.files] + ([card.folder] if card.folder else [])
        present = data_root is not None and all((Path(data_root) / path).exists() for path in needed)
        rows.append(
            {
                "dataset": card.name,
                "modality": card.modality,
                "dims": f"{card.n_dims}-D",
                "n": card.n_samples,
                "classes": len(card.classes),
                "groups": card.n_groups,
                "licence": card.licence,
                "family": card.family,
                "present": "yes" if present or not needed else "no",
            }
        )
    return rows
