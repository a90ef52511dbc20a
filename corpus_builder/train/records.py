"""What goes into a trial and what comes out of it: plain records, free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaquery.schema.predictions import CHECKPOINTS, Checkpoint
from metaquery.space import Config, content_id
from metaquery.types import Split, Status


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """One trial to run. `dataset_key` identifies the prepared data and its split definition by content."""

    dataset: str
    dataset_key: str
    fold: int
    config: Config
    seed: int
    epochs: int
    time_limit_seconds: float | None = None

    @property
    def trial_id(self) -> str:
        """Content hash of the trial's identity."""
        identity = [self.dataset, self.dataset_key, self.fold, self.config.config_id, self.seed, self.epochs]
        return content_id([*identity, self.time_limit_seconds])


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The samples of one role: `images` (n, channels, *spatial) uint8, `labels` (n,) int64 and, where the dataset has
    them, `masks` (n, *spatial) of bool and `spacing` (n, n_dims) in millimetres."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    masks: NDArray[np.bool_] | None = None
    spacing: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)  # equal is what is the same object, so that caches can be attached to it
class TrialData:
    """The training, validation and test part of one dataset and fold, and what augmentation may do to its images:
    the array axes along which they may be mirrored, counted from the end, and whether MRI's bias field fits them."""

    train: Part
    val: Part
    test: Part
    n_classes: int
    legal_flips: tuple[int, ...] = ()
    bias_field: bool = False


class EpochCost(NamedTuple):
    """Seconds of an epoch of a trial alone."""

    train_seconds: float
    eval_seconds: float


@dataclass(slots=True)
class TrialResult:
    """What a trial gave: its status, one row per finished epoch (columns of `curves` without the trial's id), and
    its probabilities at the checkpoints, each {"val": (n, n_classes), "test": (n, n_classes)} float32."""

    status: Status = Status.FAILED
    error: str | None = None
    epochs: list[dict[str, Any]] = field(default_factory=list)
    predictions: dict[Checkpoint, dict[Split, NDArray[np.float32]]] = field(default_factory=dict)
    total_seconds: float = 0.0
    peak_memory_bytes: int | None = None
    train_flops: float | None = None
    eval_flops: float | None = None
    device: str = ""
    precision: str = "float32"
    engine: Literal["single", "fused"] = "single"
    fused_width: int = 1
    cost_source: Literal["measured", "calibrated"] = "measured"
    _best_auc: float = -math.inf

    def add_epoch(self, row: dict[str, Any], probabilities: dict[Split, NDArray[np.float32]]) -> None:
        """Take in the row of a finished epoch and what was predicted after it."""
        self.epochs.append(row)
        if row["epoch"] in CHECKPOINTS:
            self.predictions[row["epoch"]] = probabilities
        # in single precision, as curves store it, so that both name the same epoch the best
        auc = -math.inf if row["val_auc"] is None else float(np.float32(row["val_auc"]))
        if row["epoch"] == 1 or auc > self._best_auc:
            self.predictions["best"], self._best_auc = probabilities, auc
        self.predictions["last"] = probabilities


def error_line(error: Exception) -> str:
    """`error` in one line: its kind, and the first and last line of what it says."""
    lines = f"{type(error).__name__}: {error}".strip().splitlines()
    return lines[-1] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}"
