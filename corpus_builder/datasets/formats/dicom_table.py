"""A table (CSV) with the directory of the DICOM series, the label and perhaps the mask (NIfTI) of each volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from corpus_builder.datasets.dicom import read_series
from corpus_builder.datasets.volume_table import read_volumes

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card
    from corpus_builder.datasets.raw import RawDataset


def read(card: Card, data_root: Path | None) -> RawDataset:
    """Read the volumes; paths, order and errors are as for `read_volumes`."""
    return read_volumes(card, data_root, read_series)
