"""A table (CSV) with the path (.nii, .nii.gz), the label and perhaps the mask of each volume.

Archives of any layout are read by a card and a table, which has a row per sample and a path per column: WORC
(`Lipo-001/NIFTI/image.nii.gz`, `Lipo-001/segmentation.nii.gz`), the Medical Segmentation Decathlon
(`imagesTr/liver_1.nii.gz`, `labelsTr/liver_1.nii.gz`), BraTS (one folder per patient; `keys.images` is the list of the
columns with t1, t1ce, t2 and flair, which become channels) and HECKTOR (`P1__CT.nii.gz` and `P1__PT.nii.gz` on one
grid, with one `volume.window` per channel).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from corpus_builder.datasets.nifti import read_nifti
from corpus_builder.datasets.volume_table import read_volumes

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card
    from corpus_builder.datasets.raw import RawDataset


def read(card: Card, data_root: Path | None) -> RawDataset:
    """Read the volumes; paths, order and errors are as for `read_volumes`."""
    return read_volumes(card, data_root, read_nifti)
