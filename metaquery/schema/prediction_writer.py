"""Writing the prediction files: one Zarr v3 zip per dataset, in it one group per fold.

A group `fold<k>` holds, T trials in the order of the table `trials`, K = len(CHECKPOINTS):

    trial                    uint64  [T]           the trial_id read as a hexadecimal number
    epoch                    int32   [T, K]        epoch of each checkpoint, 0 where none is stored
    <split>                  uint16  [T, K, n, c]  levels (see `metaquery.schema.predictions`), MISSING where none
    <split>_step             float64 [T, K]        step of the levels, NaN where none
    <split>_sample, _label   int32   [n]           the split's sample indices, ascending, and their labels
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidData
from metaquery.schema.predictions import (
    CHECKPOINTS,
    MISSING,
    SPLITS,
    Checkpoint,
    TrialPredictions,
    checkpoint_epochs,
    encode,
    predictions_path,
)
from metaquery.types import Split

if TYPE_CHECKING:
    import pyarrow as pa

_SHARD_BYTES = 2**24  # before compression: few zip entries, and little memory to pack one
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the same input gives the same bytes
_ROW_SUM_TOLERANCE = 1e-3


@dataclass
class _Fold:
    """The trials of one dataset and fold, gathered in any order on disk."""

    dataset: str
    fold: int
    n_classes: int
    checkpoints: dict[str, dict[Checkpoint, int]]  # what each trial has to bring, in table order
    samples: dict[Split, NDArray[np.int32]]
    labels: dict[Split, NDArray[np.int32]]
    scratch: Path

    def __post_init__(self) -> None:
        self.row = {trial_id: row for row, trial_id in enumerate(self.checkpoints)}
        shape = (len(self.row), len(CHECKPOINTS))
        self.epoch = np.zeros(shape, np.int32)
        self.step = {split: np.full(shape, np.nan) for split in SPLITS}
        self.levels: dict[Split, NDArray[np.uint16]] = {
            split: np.memmap(
                self.scratch / f"{self.dataset}.{self.fold}.{split}",
                np.uint16,
                mode="w+",
                shape=(*shape, len(self.samples[split]), self.n_classes),
            )
            for split in SPLITS
        }

    def add(self, trial: TrialPredictions) -> None:
        """Encode one trial's probabilities into its row."""
        what = f"predictions of trial {trial.trial_id}"
        if trial.trial_id not in self.row:
            raise InvalidData(f"{what}: no such trial with epochs in {self.dataset} fold {self.fold}, or given twice")
        row, expected = self.row.pop(trial.trial_id), self.checkpoints[trial.trial_id]
        if set(trial.probabilities) != set(expected):
            raise InvalidData(f"{what}: expected checkpoints {list(expected)}, got {list(trial.probabilities)}")
        for split in SPLITS:
            self.levels[split][row] = MISSING
            shape = (len(self.samples[split]), self.n_classes)
            for column, checkpoint in enumerate(CHECKPOINTS):
                if checkpoint in expected:
                    p = trial.probabilities[checkpoint][split]
                    _check_probabilities(p, shape, what=f"{what}, {split} at {checkpoint}")
                    self.levels[split][row, column], self.step[split][row, column] = encode(p)
                    self.epoch[row, column] = expected[checkpoint]

    def write(self, root: Any) -> None:
        """Write the group below the Zarr group `root`."""
        group = root.create_group(f"fold{self.fold}", attributes={"checkpoints": list(CHECKPOINTS)})
        ids = np.array([int(trial_id, 16) for trial_id in self.checkpoints], np.uint64)
        _write_array(group, "trial", ids)
        _write_array(group, "epoch", self.epoch)
        for split in SPLITS:
            _write_array(group, f"{split}_step", self.step[split])
            _write_array(group, f"{split}_sample", self.samples[split])
            _write_array(group, f"{split}_label", self.labels[split])
            self._write_levels(group, split)

    def _write_levels(self, group: Any, split: Split) -> None:
        from zarr.codecs import ZstdCodec

        levels = self.levels[split]
        chunk = (1, *levels.shape[1:])
        trials = max(1, min(len(levels), _SHARD_BYTES // max(1, 2 * int(np.prod(chunk)))))
        array = group.create_array(
            split,
            shape=levels.shape,
            dtype=levels.dtype,
            chunks=chunk,
            shards=(trials, *chunk[1:]),
            compressors=[ZstdCodec(level=3)],
            fill_value=MISSING,
        )
        for start in range(0, len(levels), trials):
            array[start : start + trials] = levels[start : start + trials]


def write_predictions(
    root: Path, scratch: Path, tables: Mapping[str, pa.Table], predictions: Iterable[TrialPredictions]
) -> dict[str, int]:
    """Write `predictions`, in any order, below the corpus directory `root`; the number of trials in each file.

    Every trial of `tables["trials"]` with an epoch must come exactly once, with the checkpoints that its curve has.
    `scratch` is an empty directory for what does not fit in memory.
    """
    import zarr

    folds = _folds(tables, scratch)
    for trial in predictions:
        if (trial.dataset, trial.fold) not in folds:
            raise InvalidData(f"predictions of trial {trial.trial_id}: no trials of {trial.dataset} fold {trial.fold}")
        folds[trial.dataset, trial.fold].add(trial)
    written: dict[str, int] = {}
    for (dataset, _), fold in sorted(folds.items()):
        for trial_id in fold.row:
            raise InvalidData(f"trial {trial_id} of {dataset} ran, but its predictions are missing")
        unpacked = scratch / f"{dataset}.zarr"
        fold.write(zarr.open_group(zarr.storage.LocalStore(unpacked), mode="a", zarr_format=3))
        path = predictions_path(dataset)
        written[path] = written.get(path, 0) + len(fold.checkpoints)
    for path in written:
        _zip(scratch / Path(path).stem, root / path)
    return written


def _folds(tables: Mapping[str, pa.Table], scratch: Path) -> dict[tuple[str, int], _Fold]:
    """The folds that have trials with epochs, empty, from the tables."""
    curves: dict[str, tuple[list[float | None], list[int]]] = {}
    columns = tables["curves"].select(["trial_id", "val_auc", "epoch"]).to_pydict()
    for trial_id, value, epoch in zip(columns["trial_id"], columns["val_auc"], columns["epoch"], strict=True):
        values, epochs = curves.setdefault(trial_id, ([], []))
        values.append(value)
        epochs.append(epoch)
    checkpoints: dict[tuple[str, int], dict[str, dict[Checkpoint, int]]] = {}
    trials = tables["trials"].select(["trial_id", "dataset", "fold"]).to_pylist()
    for trial in trials:
        if trial["trial_id"] in curves:
            of_fold = checkpoints.setdefault((trial["dataset"], trial["fold"]), {})
            of_fold[trial["trial_id"]] = checkpoint_epochs(*curves[trial["trial_id"]])
    n_classes = dict(zip(*(tables["datasets"][name].to_pylist() for name in ("dataset", "n_classes")), strict=True))
    parts = _parts(tables["splits"])
    for dataset, fold in checkpoints:
        for split in SPLITS:
            if (dataset, fold, split) not in parts:
                raise InvalidData(f"predictions of {dataset} fold {fold}: the table splits has no {split} samples")
    return {
        (dataset, fold): _Fold(
            dataset,
            fold,
            n_classes[dataset],
            expected,
            {split: parts[dataset, fold, split][0] for split in SPLITS},
            {split: parts[dataset, fold, split][1] for split in SPLITS},
            scratch,
        )
        for (dataset, fold), expected in checkpoints.items()
    }


def _parts(splits: pa.Table) -> dict[tuple[str, int, str], tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Sample indices, ascending, and labels of every dataset, fold and role."""
    rows: dict[tuple[str, int, str], list[tuple[int, int]]] = {}
    for row in splits.select(["dataset", "fold", "role", "sample", "label"]).to_pylist():
        rows.setdefault((row["dataset"], row["fold"], row["role"]), []).append((row["sample"], row["label"]))
    pairs = {part: np.array(sorted(values), np.int32) for part, values in rows.items()}
    return {part: (values[:, 0].copy(), values[:, 1].copy()) for part, values in pairs.items()}


def _check_probabilities(p: NDArray[np.floating[Any]], shape: tuple[int, int], *, what: str) -> None:
    if p.shape != shape:
        raise InvalidData(f"{what}: expected shape {shape}, got {p.shape}")
    if not (np.isfinite(p).all() and (p >= 0).all() and np.abs(p.sum(axis=1) - 1).max() <= _ROW_SUM_TOLERANCE):
        raise InvalidData(f"{what}: expected probabilities whose rows sum to 1")


def _write_array(group: Any, name: str, values: NDArray[Any]) -> None:
    from zarr.codecs import ZstdCodec

    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=values.shape,
        compressors=[ZstdCodec(level=3)],
        fill_value=0,
    )
    array[...] = values


def _zip(source: Path, target: Path) -> None:
    """Pack the directory `source` into `target`, files in sorted order, uncompressed, without a date."""
    target.parent.mkdir(exist_ok=True)
    files: Sequence[Path] = sorted(path for path in source.rglob("*") if path.is_file())
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(source).as_posix(), _ZIP_DATE)
            entry.external_attr = 0o644 << 16
            with path.open("rb") as content, archive.open(entry, "w", force_zip64=False) as packed:
                while block := content.read(2**20):
                    packed.write(block)
