"""Stored predictions: which epochs are kept, how probabilities become integers, and what a trial hands over.

For one sample with probabilities p and most probable class t, a class i is stored as the integer
`round(log(p_t / p_i) / step)`; one step per trial, checkpoint and split spreads the integers over the range that
occurs. So `p = softmax(-step * level)`: the most probable class is stored without error, and a barely trained model,
whose probabilities hardly differ, keeps all its ranks.
"""

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

FLOOR = 1e-7  # a class less probable than this share of the most probable one is stored as this share of it
LEVELS = 2**16 - 2
MISSING = 2**16 - 1  # every level of a checkpoint that is not stored
_SMALLEST_STEP = 1e-12  # below it, exp(-step) would round to 1 and the most probable class could change

MAX_LOG_PROBABILITY_ERROR = 1.5 * -math.log(FLOOR) / LEVELS
"""Bound on the error of a decoded log-probability, in nats, for probabilities above FLOOR times the largest.

A level is at most half a step too low, by rounding, and at most one too high, where it is moved off a tie with the
most probable class; the normaliser is off by a mean of these.
"""


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

    `epochs` are those of the checkpoints that are stored; `steps` the step of each checkpoint, (checkpoints,), NaN
    where none is stored; `chunks` the compressed levels.
    """

    trial_id: str
    epochs: Mapping[Checkpoint, int]
    steps: Mapping[Split, NDArray[np.float64]]
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


def encode(probabilities: NDArray[np.floating[Any]]) -> tuple[NDArray[np.uint16], float]:
    """Levels, shape (n, n_classes), and step of `probabilities`, shape (n, n_classes), finite and not negative.

    The most probable class (the first on ties) has level 0 and stays the first to have it.
    """
    levels, steps = encode_all(probabilities[None])
    return levels[0], float(steps[0])


def encode_all(probabilities: NDArray[np.floating[Any]]) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Levels, shape (k, n, n_classes), and steps, shape (k,), of k checkpoints, (k, n, n_classes), as of `encode`."""
    p = probabilities.astype(np.float64)
    top = p.argmax(axis=2)[..., None]
    share = p.max(axis=2, keepdims=True)
    distance = np.maximum(np.log(share) - np.log(np.maximum(p, share * FLOOR)), 0.0)
    steps = np.maximum(distance.max(axis=(1, 2)) / LEVELS, _SMALLEST_STEP)
    levels = np.rint(distance / steps[:, None, None]).astype(np.uint16)
    levels[(levels == 0) & (np.arange(p.shape[2]) < top)] = 1
    return levels, steps


def decode(levels: NDArray[np.uint16], step: float) -> NDArray[np.float64]:
    """Probabilities, shape (n, n_classes), rows summing to 1: the inverse of `encode` up to its error bound."""
    weights = np.exp(levels * -step)
    result: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return result


def predictions_path(dataset: str) -> str:
    """Path of the prediction file of `dataset`, relative to the corpus: a Zarr v3 group in an uncompressed zip."""
    return f"predictions/{dataset}.zarr.zip"
