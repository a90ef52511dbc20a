"""The stored predictions of one trial, and why there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidInput, UnknownName
from metaquery.schema.predictions import CHECKPOINTS, SPLITS, Checkpoint
from metaquery.types import Split

if TYPE_CHECKING:
    from metaquery.corpus import Corpus
    from metaquery.schema.prediction_reader import FoldPredictions


def read(
    corpus: Corpus, trial_id: str, split: Split, epoch: Checkpoint
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """See `Corpus.predictions`."""
    if split not in SPLITS:
        raise UnknownName.of("split", split, SPLITS)
    stored, row = _place(corpus, trial_id)
    epochs = np.zeros(len(CHECKPOINTS), np.int32) if row is None else stored.epochs[row]
    column = _column(epoch, epochs)
    if row is None or column is None:
        raise _no_predictions(corpus, trial_id, epoch, epochs.tolist())
    return stored.labels[split], stored.read(row, column, split)


def stored_checkpoints(corpus: Corpus, trial_id: str) -> dict[Checkpoint, int]:
    """See `Corpus.checkpoints`."""
    stored, row = _place(corpus, trial_id)
    epochs = [] if row is None else stored.epochs[row].tolist()
    return {checkpoint: epoch for checkpoint, epoch in zip(CHECKPOINTS, epochs, strict=False) if epoch}


def _place(corpus: Corpus, trial_id: str) -> tuple[FoldPredictions, int | None]:
    """The predictions of the trial's fold, and its row in them, None where no epoch ran."""
    if trial_id not in corpus.trial_parts:
        example = f", such as {next(iter(corpus.trial_parts))}" if corpus.trial_parts else ""
        raise UnknownName(f"unknown trial {trial_id!r}: expected a trial_id of the table trials{example}")
    dataset, fold = corpus.trial_parts[trial_id]
    stored = corpus.prediction_file(dataset).fold(fold)
    return stored, stored.rows.get(trial_id)


def _column(epoch: Checkpoint, epochs: NDArray[np.int32]) -> int | None:
    """The checkpoint that holds `epoch`, given the epoch of each checkpoint."""
    if isinstance(epoch, str):
        column = CHECKPOINTS.index(epoch) if epoch in CHECKPOINTS else None
        return None if column is None or epochs[column] == 0 else column
    found = np.flatnonzero(epochs == epoch) if _is_epoch(epoch) and epoch > 0 else epochs[:0]
    return int(found[0]) if len(found) else None


def _no_predictions(corpus: Corpus, trial_id: str, epoch: Checkpoint, epochs: list[int]) -> InvalidInput:
    """Why `trial_id` has no predictions at `epoch`."""
    if epoch not in ("best", "last") and not (_is_epoch(epoch) and 1 <= epoch <= corpus.epochs):
        return InvalidInput(f"epoch must be an integer from 1 to {corpus.epochs}, 'best' or 'last', got {epoch!r}")
    trials = corpus.table("trials", ["trial_id", "status", "epochs_run"])
    trial = trials.slice(trials["trial_id"].to_pylist().index(trial_id), 1).to_pylist()[0]
    ran = max(epochs) or trial["epochs_run"]
    if ran == 0 or (not isinstance(epoch, str) and epoch > ran):
        return InvalidInput(f"trial {trial_id} ended ({trial['status']}) after epoch {ran}: it has no epoch {epoch}")
    named = [f"{k!r} ({e})" if isinstance(k, str) else str(k) for k, e in zip(CHECKPOINTS, epochs, strict=True) if e]
    return InvalidInput(
        f"predictions of trial {trial_id} at epoch {epoch} are not stored: expected one of {', '.join(named)}"
    )


def _is_epoch(value: object) -> TypeGuard[int]:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
