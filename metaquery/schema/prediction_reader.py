"""Reading stored predictions straight from the memory-mapped prediction files.

The files are ordinary Zarr v3 groups in a zip, and zarr reads them; but it takes a millisecond per array and its
import a third of a second. The layout is fixed (`metaquery.schema.prediction_writer`), so one trial is two look-ups
in the zip and one zstd frame. Whatever differs from the layout is refused, so nothing in a file chooses code to run.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import CorpusError
from metaquery.schema.prediction_encoding import EXACT, PLANES, Encoded, decode, from_planes
from metaquery.schema.predictions import CHECKPOINTS, SPLITS, Checkpoint, StoredPredictions
from metaquery.types import Split

_LOCAL_HEADER = struct.Struct("<26xHH")  # lengths of name and extra field, behind which the content begins
_NOT_STORED = 2**64 - 1  # offset and size, in the index of a shard, of a chunk that is all fill value
_ZSTD = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
_INDEX_CODECS = [_LITTLE, {"name": "crc32c"}]
_TYPES = {"uint8": "u1", "int32": "<i4", "uint64": "<u8", "float64": "<f8"}
_LARGEST_CHUNK = 2**30  # bytes


@dataclass(frozen=True)
class _Array:
    """One Zarr array: `chunk` is what one zstd frame holds, `per_shard` the number of them in one zip entry."""

    name: str
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: float
    per_shard: int | None


class PredictionFile:
    """The predictions of one dataset; raises CorpusError where the file is damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folds: dict[int, FoldPredictions] = {}
        try:
            with path.open("rb") as file:
                self._bytes = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
                with zipfile.ZipFile(file) as archive:
                    entries = archive.infolist()
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
            raise self.damaged(f"it cannot be opened: {error}") from error
        self._entries = {entry.filename: entry for entry in entries}

    @property
    def folds(self) -> list[int]:
        """The folds that have predictions."""
        names = [name.split("/")[0].removeprefix("fold") for name in self._entries if name.startswith("fold")]
        return sorted({int(name) for name in names if name.isdigit()})

    def fold(self, fold: int) -> FoldPredictions:
        """The predictions of one fold."""
        if fold not in self._folds:
            self._folds[fold] = FoldPredictions(self, f"fold{fold}")
        return self._folds[fold]

    def damaged(self, problem: str) -> CorpusError:
        """The error to raise for `problem`."""
        return CorpusError(f"{self.path} is damaged: {problem}; run  metaquery verify  on the corpus")

    def _content(self, name: str) -> memoryview | None:
        """The bytes of the zip entry `name`."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        start = entry.header_offset
        if entry.compress_type != zipfile.ZIP_STORED or start + _LOCAL_HEADER.size > len(self._bytes):
            raise self.damaged(f"entry {name} is not stored as it should be")
        name_length, extra_length = _LOCAL_HEADER.unpack_from(self._bytes, start)
        start += _LOCAL_HEADER.size + name_length + extra_length
        if start + entry.file_size > len(self._bytes):
            raise self.damaged(f"entry {name} ends beyond the file")
        return self._bytes[start : start + entry.file_size]

    def array(self, name: str) -> _Array:
        """The layout of the array `name`, after its `zarr.json`."""
        content = self._content(f"{name}/zarr.json")
        try:
            meta = json.loads(bytes(content or b""))
            outer = tuple(map(int, meta["chunk_grid"]["configuration"]["chunk_shape"]))
            inner, codecs, per_shard = outer, meta["codecs"], None
            if codecs[0]["name"] == "sharding_indexed":
                sharding = codecs[0]["configuration"]
                inner, codecs, per_shard = tuple(map(int, sharding["chunk_shape"])), sharding["codecs"], outer[0]
                if sharding["index_codecs"] != _INDEX_CODECS or sharding.get("index_location", "end") != "end":
                    raise ValueError("its shards have another index")
                if len(meta["codecs"]) != 1 or (inner[0], inner[1:]) != (1, outer[1:]):
                    raise ValueError("its shards are not whole trials")
            if (
                codecs != [{"name": "bytes"} if meta["data_type"] == "uint8" else _LITTLE, _ZSTD]
                or meta["zarr_format"] != 3
                or meta["node_type"] != "array"
            ):
                raise ValueError("it has other codecs")
            array = _Array(
                name,
                tuple(map(int, meta["shape"])),
                inner,
                np.dtype(_TYPES[meta["data_type"]]),
                meta["fill_value"],
                per_shard,
            )
            if (
                outer[1:] != array.shape[1:]
                or min(*array.shape, *outer) < 1
                or (per_shard is None and outer != array.shape)
            ):
                raise ValueError("it has other chunks")
            if math.prod(inner) * array.dtype.itemsize > _LARGEST_CHUNK:
                raise ValueError("its chunks are too large")
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise self.damaged(f"array {name} does not have the layout of predictions ({error})") from error
        return array

    def read(self, name: str, dtype: str) -> NDArray[Any]:
        """All values of the array `name`, which is one chunk of `dtype`."""
        array = self.array(name)
        if array.dtype.name != dtype or array.per_shard is not None:
            raise self.damaged(f"array {name} is not a plain {dtype} array")
        content = self._content(f"{name}/c/{'/'.join('0' * len(array.shape))}")
        if content is None:
            return np.full(array.shape, array.fill, array.dtype)
        return self._decompress(array, content)

    def read_trial(self, array: _Array, row: int) -> NDArray[np.uint8]:
        """The bytes of the levels of one trial, shape (PLANES, checkpoints, n_classes, n)."""
        chunk = self.chunk(array, row)
        if chunk is None:
            raise self.damaged(f"{array.name} lacks the levels of row {row}")
        planes: NDArray[np.uint8] = self._decompress(array, chunk)[0]
        return planes

    def chunk(self, array: _Array, row: int) -> memoryview | None:
        """The compressed levels of one trial, None where none are stored."""
        per_shard = array.per_shard or 1
        shard = self._content(f"{array.name}/c/{row // per_shard}{'/0' * (len(array.shape) - 1)}")
        if shard is None:
            return None
        index = len(shard) - 16 * per_shard - 4  # offset and size of every chunk, then a checksum
        if index < 0:
            raise self.damaged(f"a shard of {array.name} is too short")
        offset, size = struct.unpack_from("<QQ", shard, index + 16 * (row % per_shard))
        if offset == size == _NOT_STORED:
            return None
        if offset + size > index:
            raise self.damaged(f"a chunk of {array.name} ends beyond its shard")
        return shard[offset : offset + size]

    def _decompress(self, array: _Array, content: memoryview) -> NDArray[Any]:
        import pyarrow as pa

        size = math.prod(array.chunk) * array.dtype.itemsize
        try:
            plain = pa.decompress(content, decompressed_size=size, codec="zstd")
            return np.frombuffer(plain, array.dtype).reshape(array.chunk)
        except (OSError, ValueError) as error:  # pyarrow's errors are both
            raise self.damaged(f"array {array.name} cannot be decompressed: {error}") from error


class FoldPredictions:
    """The predictions of one dataset and fold."""

    def __init__(self, file: PredictionFile, name: str) -> None:
        self.file = file
        self.name = name
        self.trials: NDArray[np.uint64] = file.read(f"{name}/trial", "uint64")
        self.epochs: NDArray[np.int32] = file.read(f"{name}/epoch", "int32")
        self._levels = {split: file.array(f"{name}/{split}") for split in SPLITS}
        self._steps = {split: file.read(f"{name}/{split}_step", "float64") for split in SPLITS}
        self._widths = {split: file.read(f"{name}/{split}_width", "uint8") for split in SPLITS}
        shape = (len(self.trials), len(CHECKPOINTS))
        for split in SPLITS:
            levels = self._levels[split]
            if not (levels.dtype.name == "uint8" and levels.per_shard is not None and len(levels.shape) == 5):
                raise file.damaged(f"the levels of {name} {split} do not have the layout of predictions")
            tables = (self.epochs, self._steps[split], self._widths[split])
            if not (
                levels.shape[:3] == (shape[0], PLANES, shape[1]) and all(values.shape == shape for values in tables)
            ):
                raise file.damaged(f"the arrays of {name} do not fit together")
            if not (
                levels.shape[3] == self.n_classes
                and levels.shape[4] == len(self.samples[split]) == len(self.labels[split])
            ):
                raise file.damaged(f"the samples of {name} {split} do not fit its predictions")
            if not 0 <= self.labels[split].min() <= self.labels[split].max() < levels.shape[3]:
                raise file.damaged(f"the labels of {name} {split} are not class indices")

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of every trial, by trial_id."""
        return {f"{int(trial):016x}": row for row, trial in enumerate(self.trials)}

    @cached_property
    def samples(self) -> dict[Split, NDArray[np.int32]]:
        """The sample indices of each split, shape (n,), in the order of the predictions."""
        return {split: self.file.read(f"{self.name}/{split}_sample", "int32") for split in SPLITS}

    @cached_property
    def labels(self) -> dict[Split, NDArray[np.int64]]:
        """The true classes of each split, shape (n,), read-only."""
        labels = {split: self.file.read(f"{self.name}/{split}_label", "int32").astype(np.int64) for split in SPLITS}
        for values in labels.values():
            values.flags.writeable = False
        return labels

    @property
    def n_classes(self) -> int:
        """Number of classes of the dataset."""
        return self._levels["val"].shape[3]

    def read(self, row: int, column: int, split: Split) -> NDArray[np.float64]:
        """Class probabilities, shape (n, n_classes), of the trial in `row` at the checkpoint in `column`."""
        return self._decode(self.file.read_trial(self._levels[split], row), row, column, split)

    def read_all(self, row: int, split: Split) -> dict[Checkpoint, NDArray[np.float64]]:
        """Class probabilities, shape (n, n_classes), of the trial in `row` at every checkpoint that is stored."""
        planes = self.file.read_trial(self._levels[split], row)
        stored = np.flatnonzero(self.epochs[row])
        return {CHECKPOINTS[column]: self._decode(planes, row, int(column), split) for column in stored}

    def stored(self) -> Iterator[StoredPredictions]:
        """Every trial as it is stored, checked only for being there."""
        for trial_id, row in self.rows.items():
            epochs = {k: int(epoch) for k, epoch in zip(CHECKPOINTS, self.epochs[row], strict=True) if epoch}
            chunks = {}
            for split in SPLITS:
                chunk = self.file.chunk(self._levels[split], row)
                if chunk is None:
                    raise self.file.damaged(f"{self.name} {split} lacks the levels of trial {trial_id}")
                chunks[split] = bytes(chunk)
            steps, widths = ({s: values[s][row] for s in SPLITS} for values in (self._steps, self._widths))
            yield StoredPredictions(trial_id, epochs, steps, widths, chunks)

    def step(self, row: int, column: int, split: Split) -> float:
        """How far apart two neighbouring log-ratios of probabilities are that can be stored; 0 if all are exact."""
        return float(self._steps[split][row, column])

    def _decode(self, planes: NDArray[np.uint8], row: int, column: int, split: Split) -> NDArray[np.float64]:
        width, step = int(self._widths[split][row, column]), self.step(row, column, split)
        sound = step == 0.0 if width == EXACT else 0 < width < EXACT and 0.0 < step < 1.0
        if not sound:
            raise self.file.damaged(f"the step of {self.name} {split} [{row}, {column}] is {step} at {width} bits")
        return decode(Encoded(from_planes(planes[:, column]), step, width))
