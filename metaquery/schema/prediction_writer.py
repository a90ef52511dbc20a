"""Writing the prediction files: one Zarr v3 zip per dataset, in it one group per fold.

A group `fold<k>` holds, T trials in the order of the table `trials`, K = len(CHECKPOINTS):

    trial                    uint64  [T]           the trial_id read as a hexadecimal number
    epoch                    int32   [T, K]        epoch of each checkpoint, 0 where none is stored
    <split>                  uint8   [T, PLANES, K, c, n]  bytes of the levels, lowest first, 0 where none
    <split>_step             float64 [T, K]        step of the levels, 0 where none and where the width is EXACT
    <split>_width            uint8   [T, K]        bits of the levels, 0 where none
    <split>_sample, _label   int32   [n]           the split's sample indices, ascending, and their labels

`metaquery.schema.prediction_encoding` says what levels are. Checkpoints of one epoch are the same bytes, which zstd
finds; differences from one checkpoint to the next would take a sixth more.
"""

from __future__ import annotations

import shutil
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidData
from metaquery.schema.prediction_encoding import MAX_ERROR, PLANES, Encoded, encode, to_planes
from metaquery.schema.predictions import (
    CHECKPOINTS,
    SPLITS,
    Checkpoint,
    StoredPredictions,
    TrialPredictions,
    predictions_path,
)
from metaquery.types import Split

if TYPE_CHECKING:
    import pyarrow as pa

_SHARD_BYTES = 2**24  # before compression: few zip entries, and little memory to pack one
_NOT_STORED = 2**64 - 1  # offset and size, in the index of a shard, of a chunk beyond the last trial
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the same input gives the same bytes
_ROW_SUM_TOLERANCE = 1e-3
_LEVEL = 3  # of zstd


class FoldWriter:
    """The predictions of one dataset and fold: taken one trial at a time, in any order, and kept compressed on disk.

    `parts` are the sample indices, ascending, and the labels of each split, (n,) each.
    """

    def __init__(
        self,
        dataset: str,
        fold: int,
        n_classes: int,
        parts: Mapping[Split, tuple[NDArray[np.int32], NDArray[np.int32]]],
        scratch: Path,
    ) -> None:
        import pyarrow as pa

        self._what = f"{dataset} fold {fold}"
        self._fold = fold
        self._parts = parts
        self._shapes: dict[Split, tuple[int, int]] = {split: (len(parts[split][0]), n_classes) for split in SPLITS}
        self._codec = pa.Codec("zstd", compression_level=_LEVEL)
        self._trials: dict[str, dict[Checkpoint, int | None]] = {}  # the epoch of a checkpoint, None where not told
        self._steps: dict[Split, list[NDArray[np.float64]]] = {split: [] for split in SPLITS}
        self._widths: dict[Split, list[NDArray[np.uint8]]] = {split: [] for split in SPLITS}
        self._chunks: dict[Split, list[tuple[int, int]]] = {split: [] for split in SPLITS}  # offset, size
        self._scratch = {split: (scratch / f"{dataset}.{fold}.{split}").open("w+b") for split in SPLITS}

    def add(self, trial: TrialPredictions | StoredPredictions) -> None:
        """Take one trial: encode its probabilities, or keep what is encoded already."""
        what = f"predictions of trial {trial.trial_id}"
        if trial.trial_id in self._trials:
            raise InvalidData(f"{what}: given twice")
        if isinstance(trial, StoredPredictions):
            self._trials[trial.trial_id] = dict(trial.epochs)
            for split in SPLITS:
                self._keep(split, trial.chunks[split], trial.steps[split], trial.widths[split])
            return
        self._trials[trial.trial_id] = dict.fromkeys(trial.probabilities)
        for split, shape in self._shapes.items():
            levels = np.zeros((len(CHECKPOINTS), *shape), np.uint32)
            steps, widths = np.zeros(len(CHECKPOINTS)), np.zeros(len(CHECKPOINTS), np.uint8)
            seen: list[tuple[NDArray[Any], Encoded]] = []
            for column, checkpoint in enumerate(CHECKPOINTS):
                if checkpoint in trial.probabilities:
                    p = trial.probabilities[checkpoint][split]
                    _check_probabilities(p, shape, what=f"{what}, {split} at {checkpoint}")
                    # best and last are mostly the epoch of another one
                    known = next((encoded for other, encoded in seen if np.array_equal(other, p)), None)
                    encoded = encode(p, self._parts[split][1]) if known is None else known
                    seen.append((p, encoded))
                    levels[column], steps[column], widths[column] = encoded
            self._keep(split, self._codec.compress(to_planes(levels), asbytes=True), steps, widths)

    def _keep(self, split: Split, chunk: bytes, steps: NDArray[np.float64], widths: NDArray[np.uint8]) -> None:
        file = self._scratch[split]
        self._chunks[split].append((file.tell(), len(chunk)))
        self._steps[split].append(steps)
        self._widths[split].append(widths)
        file.write(chunk)

    def write(self, directory: Path, expected: Mapping[str, Mapping[Checkpoint, int]]) -> int:
        """Write the group below the Zarr group in `directory`; the number of its trials.

        `expected` are the epochs of the checkpoints of every trial with an epoch, in the order of the table.
        """
        import zarr

        self._check(expected)
        if not expected:
            return 0
        root = zarr.open_group(zarr.storage.LocalStore(directory), mode="a", zarr_format=3)
        group: Any = root.create_group(
            f"fold{self._fold}", attributes={"checkpoints": list(CHECKPOINTS), "max_error": MAX_ERROR}
        )
        row = {trial_id: row for row, trial_id in enumerate(self._trials)}
        order = [row[trial_id] for trial_id in expected]
        epochs = [[epochs.get(checkpoint, 0) for checkpoint in CHECKPOINTS] for epochs in expected.values()]
        _write_array(group, "trial", np.array([int(trial_id, 16) for trial_id in expected], np.uint64))
        _write_array(group, "epoch", np.array(epochs, np.int32))
        for split, (samples, labels) in self._parts.items():
            _write_array(group, f"{split}_step", np.array(self._steps[split])[order])
            _write_array(group, f"{split}_width", np.array(self._widths[split])[order])
            _write_array(group, f"{split}_sample", samples)
            _write_array(group, f"{split}_label", labels)
            self._write_levels(group, split, order, directory / f"fold{self._fold}" / split)
        return len(expected)

    def _check(self, expected: Mapping[str, Mapping[Checkpoint, int]]) -> None:
        for trial_id, given in self._trials.items():
            what = f"predictions of trial {trial_id}"
            if trial_id not in expected:
                raise InvalidData(f"{what}: no such trial with epochs in {self._what}")
            wanted = expected[trial_id]
            if set(given) != set(wanted):
                raise InvalidData(f"{what}: expected checkpoints {list(wanted)}, got {list(given)}")
            if any(epoch not in (None, wanted[checkpoint]) for checkpoint, epoch in given.items()):
                raise InvalidData(f"{what}: expected checkpoints at {dict(wanted)}, got {given}")
        for trial_id in expected:
            if trial_id not in self._trials:
                raise InvalidData(f"trial {trial_id} of {self._what} ran, but its predictions are missing")

    def _write_levels(self, group: Any, split: Split, order: Sequence[int], directory: Path) -> None:
        """Describe the array by zarr, and put the chunks, one a trial, into shards as Zarr v3 lays them out."""
        import google_crc32c
        from zarr.codecs import ZstdCodec

        n_samples, n_classes = self._shapes[split]
        chunk = (1, PLANES, len(CHECKPOINTS), n_classes, n_samples)
        per_shard = max(1, min(len(order), _SHARD_BYTES // int(np.prod(chunk))))
        group.create_array(
            split,
            shape=(len(order), *chunk[1:]),
            dtype=np.uint8,
            chunks=chunk,
            shards=(per_shard, *chunk[1:]),
            compressors=[ZstdCodec(level=_LEVEL)],
            fill_value=0,
        )
        file, chunks = self._scratch[split], self._chunks[split]
        for number, start in enumerate(range(0, len(order), per_shard)):
            path = directory / "c" / str(number) / "0" / "0" / "0" / "0"
            path.parent.mkdir(parents=True)
            index, end = [], 0
            with path.open("wb") as shard:
                for row in order[start : start + per_shard]:
                    offset, size = chunks[row]
                    file.seek(offset)
                    shard.write(file.read(size))
                    index += [end, size]
                    end += size
                index += [_NOT_STORED] * (2 * per_shard - len(index))
                packed = struct.pack(f"<{len(index)}Q", *index)
                shard.write(packed + struct.pack("<I", google_crc32c.value(packed)))

    def close(self) -> None:
        """Remove what was kept on disk."""
        for file in self._scratch.values():
            file.close()
            Path(file.name).unlink()


def split_parts(splits: pa.Table, dataset: str, fold: int) -> dict[Split, tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Sample indices, ascending, and labels of each split; InvalidData where a split has no sample."""
    import pyarrow.compute as pc

    here = splits.filter((pc.field("dataset") == dataset) & (pc.field("fold") == fold))
    parts: dict[Split, tuple[NDArray[np.int32], NDArray[np.int32]]] = {}
    for split in SPLITS:
        rows = here.filter(pc.field("role") == split).sort_by("sample")
        if not len(rows):
            raise InvalidData(f"predictions of {dataset} fold {fold}: the table splits has no {split} samples")
        parts[split] = (rows["sample"].to_numpy().astype(np.int32), rows["label"].to_numpy().astype(np.int32))
    return parts


def pack(directory: Path, root: Path, dataset: str) -> str:
    """Move the Zarr group of `dataset` in `directory` into its file below the corpus `root`; the file's path there."""
    path = predictions_path(dataset)
    _zip(directory, root / path)
    shutil.rmtree(directory)
    return path


def _check_probabilities(p: NDArray[np.floating[Any]], shape: tuple[int, int], *, what: str) -> None:
    if p.shape != shape:
        raise InvalidData(f"{what}: expected shape {shape}, got {p.shape}")
    if not (np.isfinite(p).all() and (p >= 0).all() and np.abs(p.sum(axis=-1) - 1).max() <= _ROW_SUM_TOLERANCE):
        raise InvalidData(f"{what}: expected probabilities whose rows sum to 1")


def _write_array(group: Any, name: str, values: NDArray[Any]) -> None:
    from zarr.codecs import ZstdCodec

    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=values.shape,
        compressors=[ZstdCodec(level=_LEVEL)],
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
