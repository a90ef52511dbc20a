"""What goes into a trial and what comes out of it: plain records, free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaquery.schema.predictions import Checkpoint
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


@dataclass(frozen=True, slots=True)
class TrialData:
    """The training, validation and test part of one dataset and fold."""

    train: Part
    val: Part
    test: Part
    n_classes: int


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
    device: str = ""
    precision: str = "float32"


def error_line(error: Exception) -> str:
    """`error` in one line: its kind, and the first and last line of what it says."""
    lines = f"{type(error).__name__}: {error}".strip().splitlines()
    return lines[-1] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}"
