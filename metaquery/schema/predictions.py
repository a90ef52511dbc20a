"""Stored predictions: which epochs are kept, and what a trial hands over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metaquery.types import Split

Checkpoint = int | Literal["best", "last"]

CHECKPOINTS: tuple[Checkpoint, ...] = (1, 3, 9, 27, "best", "last")
SPLITS: tuple[Split, ...] = ("val", "test")
DECIDES_BEST = "val_auc"  # the column of curves whose highest value is at the checkpoint `best`


@dataclass(frozen=True, slots=True)
class TrialPredictions:
    """The class probabilities of one trial.

    `probabilities` maps each checkpoint that the trial reached to `{"val": (n_val, n_classes), "test": (n_test,
    n_classes)}`, rows in the order of ascending sample index.
    """

    trial_id: str
    dataset: str
    fold: int
    probabilities: Mapping[Checkpoint, Mapping[Split, NDArray[np.floating[Any]]]]


@dataclass(frozen=True, slots=True)
class StoredPredictions:
    """The predictions of one trial as a prediction file holds them, to be kept as they are.

    `epochs` are those of the checkpoints that are stored; `steps` and `widths` those of the levels of each checkpoint,
    (checkpoints,), 0 where none is stored; `chunks` the compressed levels.
    """

    trial_id: str
    epochs: Mapping[Checkpoint, int]
    steps: Mapping[Split, NDArray[np.float64]]
    widths: Mapping[Split, NDArray[np.uint8]]
    chunks: Mapping[Split, bytes]


def checkpoint_epochs(val_auc: Sequence[float | None], epochs: Sequence[int] | None = None) -> dict[Checkpoint, int]:
    """The epoch of every checkpoint of a trial with these validation AUCs, at `epochs`, ascending, or else from 1 on.

    `best` is the epoch of the highest one in single precision, as curves store it, the first on ties; an undefined
    one is below all others.
    """
    if not val_auc:
        return {}
    recorded = range(1, len(val_auc) + 1) if epochs is None else epochs
    scores = np.array([-math.inf if value is None else value for value in val_auc], dtype=np.float32)
    reached: dict[Checkpoint, int] = {k: k for k in CHECKPOINTS if isinstance(k, int) and k in recorded}
    return {**reached, "best": recorded[int(scores.argmax())], "last": recorded[-1]}


def predictions_path(dataset: str) -> str:
    """Path of the prediction file of `dataset`, relative to the corpus: a Zarr v3 group in an uncompressed zip."""
    return f"predictions/{dataset}.zarr.zip"
