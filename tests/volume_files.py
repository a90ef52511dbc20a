"""Scans and masks as NIfTI files, tables of them, and the problems with which they are refused."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from corpus_builder.datasets.cards import Card
from corpus_builder.datasets.formats import read
from corpus_builder.datasets.raw import problems_of
from metaquery.errors import InvalidData, MedCurvesError

SIZE = (4, 5, 6)  # depth, height, width; scans are stored (6, 5, 4) where nothing is resampled
VALUES = np.arange(120, dtype=np.float32).reshape(6, 5, 4)
MASK = (VALUES > 60).astype(np.uint8)

Rows = Sequence[Mapping[str, str]]
MakeTwo = Callable[..., Card]


def scan(seed: int, shape: Sequence[int] = (6, 5, 4)) -> NDArray[np.int16]:
    """Values (x, y, z) from 0 to 250 in steps of 10."""
    return (10 * np.random.default_rng(seed).integers(0, 26, shape)).astype(np.int16)


def save_nifti(path: Path, values: NDArray[Any], affine: NDArray[Any] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)


def write_table(path: Path, rows: Rows) -> str:
    """Write `rows` as CSV; the SHA-256 of the file."""
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def samples(patients: str) -> Rows:
    """The rows of the two sound samples, of `patients`."""
    return [
        {"t1": f"{name}.nii.gz", "t2": f"{name}_t2.nii.gz", "seg": f"{name}_seg.nii.gz", "label": label, "id": patient}
        for name, label, patient in zip("ab", ("cold", "hot"), patients, strict=True)
    ]


def refused(card: Card, root: Path, kind: type[MedCurvesError] = InvalidData) -> list[str]:
    """The problems with which reading is refused, but for the checksum, which is wrong for all of them."""
    with pytest.raises(MedCurvesError) as caught:
        read(card, root)
    assert type(caught.value) is kind
    problems = problems_of(caught.value)
    assert not any("\n" in problem for problem in problems)
    return [problem for problem in problems if "tree_sha256" not in problem]


def axes(array: NDArray[Any]) -> NDArray[Any]:
    return array.transpose(2, 1, 0)
