"""One module per file format. The module's name is the `format` of a card, and it has one function:

`read(card: Card, data_root: Path | None) -> RawDataset`
"""

from __future__ import annotations

import pkgutil
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from corpus_builder.datasets.split_table import read_fold_roles

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card
    from corpus_builder.datasets.raw import RawDataset


@cache
def format_names() -> tuple[str, ...]:
    """Names of the formats, sorted; adding a module to this package adds a format."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def read(card: Card, data_root: Path | None) -> RawDataset:
    """Read the dataset of `card` from below `data_root` (not needed by generated ones) and check it against the card.

    Raises InvalidInput where a file is missing and InvalidData where the data are damaged or contradict the card.
    """
    raw = read_unchecked(card, data_root)
    raw.check(card)
    return raw


def read_unchecked(card: Card, data_root: Path | None) -> RawDataset:
    """As `read`, but arrays that contradict each other or the card are given as they are."""
    raw: RawDataset = import_module(f"{__name__}.{card.format}").read(card, data_root)
    if card.split.kind == "table":
        raw = replace(raw, official_roles=read_fold_roles(card, data_root, raw.groups))
    return raw
