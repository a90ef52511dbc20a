"""A table (CSV) with the path and the label of each image; the card's `keys` name its columns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from corpus_builder.datasets.archive import locate_only
from corpus_builder.datasets.images import ImageFile, read_images
from corpus_builder.datasets.table import read_samples
from corpus_builder.datasets.tree import locate_folder

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card
    from corpus_builder.datasets.raw import RawDataset


def read(card: Card, data_root: Path | None) -> RawDataset:
    """Read the images in the order of the table; their paths start at the card's `folder`, else at the data root.

    Raises InvalidInput where the table or the folder is missing, InvalidData for a table or images that are not as
    the card says and InvalidCard where it has no tree_sha256.
    """
    table = locate_only(card, data_root)
    folder = locate_folder(card, data_root)
    problems: list[str] = []
    rows = read_samples(card, table, problems)
    files = [ImageFile(row.paths[0], row.place, row.label, row.group, row.role) for row in rows]
    return read_images(card, folder, files, problems, official="split" in card.keys)
