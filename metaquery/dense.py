"""Learning curves as memory-mapped arrays [trial, epoch], one per column: the tier for lookups and scans.

An array is built from the tables on first use, in the cache directory, under the hashes of the tables it was built
from. Where that directory cannot be written, it is built in memory. An epoch without a record is NaN, as is a null.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaquery.cache import cache_directory, file_hash, keep, kept
from metaquery.errors import CorpusError, InvalidInput, UnknownName
from metaquery.schema.parquet import decoded
from metaquery.schema.tables import table

if TYPE_CHECKING:
    import pyarrow as pa

_LAYOUT = 1  # to be raised with every change to what the files hold
_SLAB = 1 << 14  # trials that are built at once

Array = NDArray[Any]
_Made = tuple[np.dtype[Any], tuple[int, ...], Iterator[Array]]  # type, shape, and parts along the first axis


class Dense:
    """The arrays of one corpus, whose curves are in the order of its trials; rows are trials, in the table's order."""

    def __init__(self, trials: Path, curves: Path, epochs: int) -> None:
        self._trials, self._curves, self._epochs = trials, curves, epochs
        self._columns: dict[str, Array] = {}

    def column(self, name: str) -> NDArray[np.float32]:
        """The values of the curve column `name`, shape (n_trials, epochs), not to be written to.

        Raises UnknownName for a column that is not one of numbers per epoch.
        """
        if name not in self._columns:
            known = [column.name for column in table("curves").columns if column.type == "float32"]
            if name not in known:
                raise UnknownName.of("curve column", name, known)
            self._columns[name] = self._array(
                name, lambda: (np.dtype("<f4"), (len(self.spans), self._epochs), self._slabs(name))
            )
        return self._columns[name]

    def curve(self, trial_id: str, name: str) -> NDArray[np.float32]:
        """The records of one trial, shape (epochs_run,); UnknownName for an unknown trial or column."""
        row = self.row(trial_id)
        spans = self._edges
        return (self._columns[name] if name in self._columns else self.column(name))[row, spans[row, 0] : spans[row, 1]]

    def row(self, trial_id: str) -> int:
        """The row of a trial; UnknownName where there is none."""
        ids, rows = self._lookup
        position = int(ids.searchsorted(trial_id.encode()))
        if position == len(ids) or ids[position].decode() != trial_id:
            raise UnknownName(f"unknown trial {trial_id!r}: expected a trial_id of the table trials")
        return int(rows[position])

    def ids(self) -> NDArray[np.bytes_]:
        """All trial ids, sorted, in bytes."""
        return self._lookup[0]

    @cached_property
    def spans(self) -> NDArray[np.int32]:
        """Epoch before the first record, and epoch of the last one, of every trial: shape (n_trials, 2)."""
        return self._array("spans", lambda: (np.dtype("<i4"), (self._size, 2), self._read_spans()))

    def cached(self, name: str, write: Callable[[IO[bytes]], object]) -> Path | None:
        """The file `name` beside the arrays, made with `write` where it is not there; None where it cannot be made."""
        if self._root is None:
            return None
        path = self._root / name
        return path if kept(path) or keep(path, write) else None

    @cached_property
    def _root(self) -> Path | None:
        """Where the arrays of these very tables are kept; None where there is no place."""
        source = [str(_LAYOUT), str(self._epochs), file_hash(self._trials), file_hash(self._curves)]
        try:
            return cache_directory() / "dense" / hashlib.sha256(" ".join(source).encode()).hexdigest()[:32]
        except InvalidInput:
            return None

    @cached_property
    def _edges(self) -> memoryview:
        return self.spans.data  # an item of it is a plain integer, three times as fast as an array's

    @cached_property
    def _lookup(self) -> tuple[Array, Array]:
        """All trial ids, sorted, and the row of each."""

        def ids(sort: bool) -> _Made:
            import pyarrow as pa

            names = self._table(["trial_id"])["trial_id"].cast(pa.binary()).to_numpy().astype("S")
            order = names.argsort(kind="stable").astype("<i4")
            part = names[order] if sort else order
            return part.dtype, part.shape, iter([part])

        return self._array("ids", lambda: ids(sort=True)), self._array("rows", lambda: ids(sort=False))

    @cached_property
    def _size(self) -> int:
        import pyarrow.parquet as pq

        return int(decoded(lambda: pq.read_metadata(self._trials), self._trials).num_rows)

    def _table(self, columns: list[str]) -> pa.Table:
        import pyarrow.parquet as pq

        return decoded(lambda: pq.read_table(self._trials, columns=columns, memory_map=True), self._trials)

    def _array(self, name: str, make: Callable[[], _Made]) -> Array:
        """The array `name`, mapped from the cache, or in memory."""
        path = self.cached(f"{name}.npy", lambda file: _write(file, *make()))
        found: Array
        if path is None:
            dtype, shape, parts = make()
            found = np.concatenate([np.empty((0, *shape[1:]), dtype), *parts])
            found.flags.writeable = False
        else:
            # A memmap is slower to slice than the plain array over it, and nothing cannot be mapped.
            found = np.load(path, mmap_mode="r" if self._size else None).view(np.ndarray)
        return found

    def _slabs(self, name: str) -> Iterator[Array]:
        values = _Stream(self._batches(name))
        epoch = np.arange(self._epochs)
        for start in range(0, len(self.spans), _SLAB):
            first, last = (edge[:, None] for edge in self.spans[start : start + _SLAB].T)
            there = (epoch >= first) & (epoch < last)
            slab = np.full(there.shape, np.nan, np.float32)
            slab[there] = values.take(int(there.sum()))
            yield slab

    def _batches(self, name: str) -> Iterator[Array]:
        for batch in self._read([name]):
            yield batch.column(0).to_numpy(zero_copy_only=False).astype(np.float32, copy=False)

    def _read_spans(self) -> Iterator[Array]:
        """The spans, from the epochs of the curves, whose order is checked on the way."""
        import pyarrow.compute as pc

        trials = self._table(["trial_id", "epochs_run"])
        counts = trials["epochs_run"].to_numpy().astype(np.int64)
        ids = trials["trial_id"].combine_chunks()
        ends = np.concatenate([[0], np.cumsum(counts)])
        last = np.zeros(len(counts), np.int64)
        start, row, epoch = 0, -1, 0  # rows that were read, and the trial and epoch of the last of them
        for batch in self._read(["trial_id", "epoch"], read_dictionary=["trial_id"]):
            codes = batch.column(0)
            epochs = batch.column(1).to_numpy().astype(np.int64)
            stop = start + len(epochs)
            if stop > ends[-1]:
                raise self._disordered()
            rows = np.searchsorted(ends, np.arange(start, stop), side="right") - 1
            expected = ids.slice(rows[0], rows[-1] - rows[0] + 1)  # all of them would be hashed again for each batch
            found = pc.fill_null(pc.index_in(codes.dictionary, value_set=expected), -1).to_numpy()
            steps = np.diff(epochs, prepend=epoch)[np.diff(rows, prepend=row) == 0]
            if not np.array_equal(found[codes.indices.to_numpy()], rows - rows[0]) or np.any(steps != 1):
                raise self._disordered()
            last[rows] = epochs  # of the rows of one trial the last assignment stands
            start, row, epoch = stop, int(rows[-1]), int(epochs[-1])
        if start != ends[-1] or np.any(last < counts) or np.any(last > self._epochs):
            raise self._disordered()
        yield np.stack([last - counts, last], axis=1)

    def _read(self, columns: list[str], read_dictionary: list[str] | None = None) -> Iterator[Any]:
        import pyarrow.parquet as pq

        def opened() -> Any:
            return pq.ParquetFile(self._curves, memory_map=True, read_dictionary=read_dictionary)

        with decoded(opened, self._curves) as file:
            batches = file.iter_batches(batch_size=1 << 17, columns=columns)
            while (batch := decoded(lambda: next(batches, None), self._curves)) is not None:
                yield batch

    def _disordered(self) -> CorpusError:
        root = self._curves.parent
        return CorpusError(f"the curves in {root} are not in the order of its trials: run  metaquery verify  on it")


def _write(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...], parts: Iterator[Array]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for part in parts:
        file.write(np.ascontiguousarray(part, dtype).data)


class _Stream:
    """Batches of values, taken in portions of another size."""

    def __init__(self, batches: Iterator[Array]) -> None:
        self._batches = batches
        self._left: list[Array] = []

    def take(self, count: int) -> Array:
        taken: list[Array] = [np.empty(0, np.float32)]
        while count > 0:
            batch = self._left.pop() if self._left else next(self._batches)
            taken.append(batch[:count])
            if len(batch) > count:
                self._left.append(batch[count:])
            count -= len(taken[-1])
        return np.concatenate(taken)
