"""Parquet files of finished trials: one row per trial, with its curve and its predictions."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus_builder.files import replace_file
from corpus_builder.train.records import TrialResult, TrialSpec
from metaquery.errors import InvalidData, InvalidInput
from metaquery.schema import table

_RECORD = struct.Struct("<QI")  # length and checksum, before each row of a file that is appended to


@cache
def shard_schema() -> pa.Schema:
    """One row per trial: the columns of `trials`, its curve, and its probabilities as flat float32 lists."""
    curve = [field for field in table("curves").arrow_schema() if field.name != "trial_id"]
    prediction = [
        pa.field("checkpoint", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("n_classes", pa.int32(), nullable=False),
        pa.field("probabilities", pa.list_(pa.float32()), nullable=False),
    ]
    nested = [
        pa.field("curve", pa.list_(pa.struct(curve)), nullable=False),
        pa.field("predictions", pa.list_(pa.struct(prediction)), nullable=False),
    ]
    return pa.schema([*table("trials").arrow_schema(), *nested])


def write_rows(path: Path, rows: pa.Table) -> None:
    """Store `rows` at `path`, whole or not at all."""
    with replace_file(path) as partial:
        pq.write_table(rows, partial, compression="zstd", write_page_checksum=True)


def read_rows(path: Path, trial_ids: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
    """The rows at `path`; InvalidData when the file is damaged or holds other trials than `trial_ids`.

    `columns` limits what is read, and so what is checked for damage.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            rows = file.read(None if columns is None else ["trial_id", *columns])
    except (pa.ArrowException, OSError) as error:
        raise InvalidData(f"shard {path} is damaged ({error}): delete it and run the plan again") from error
    if schema != shard_schema() or rows["trial_id"].to_pylist() != list(trial_ids):
        raise InvalidData(f"shard {path} does not hold the trials of its unit: delete it and run the plan again")
    return rows


def append_rows(path: Path, rows: pa.Table) -> None:
    """Append `rows` to the file at `path`, which one process alone writes to.

    What was appended outlives the process, though not a power failure: that costs a flush to disk for every trial.
    Raises InvalidInput where it cannot be written.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    content = sink.getvalue()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            record = memoryview(_RECORD.pack(content.size, zlib.crc32(content)) + content)
            start = file.tell()
            try:
                while record:
                    record = record[file.write(record) :]
            except OSError:
                file.truncate(start)  # what is appended later can be read only behind whole records
                raise
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}") from error


def read_appended(path: Path, columns: Sequence[str] | None = None) -> dict[str, pa.Table]:
    """The rows at `path` by trial, up to the first that is damaged: a process may have been killed as it wrote it."""
    content = memoryview(path.read_bytes())
    found: dict[str, pa.Table] = {}
    position = 0
    while position + _RECORD.size <= len(content):
        size, checksum = _RECORD.unpack_from(content, position)
        position += _RECORD.size
        record = content[position : position + size]
        position += size
        if len(record) < size or zlib.crc32(record) != checksum:
            break
        rows = pa.ipc.open_stream(pa.py_buffer(record)).read_all()
        if rows.schema == shard_schema():
            found[rows["trial_id"][0].as_py()] = rows if columns is None else rows.select(["trial_id", *columns])
    return found


def trial_row(spec: TrialSpec, result: TrialResult, versions: Mapping[str, str]) -> pa.Table:
    """The one row of a trial."""
    row: dict[str, Any] = {
        "trial_id": spec.trial_id,
        "dataset": spec.dataset,
        "fold": spec.fold,
        "config_id": spec.config.config_id,
        "seed": spec.seed,
        "status": str(result.status),
        "error": result.error,
        "epochs_planned": spec.epochs,
        "epochs_run": len(result.epochs),
        "device": result.device,
        "precision": result.precision,
        "engine": result.engine,
        "fused_width": result.fused_width,
        "cost_source": result.cost_source,
        "total_seconds": result.total_seconds,
        "peak_memory_bytes": result.peak_memory_bytes,
        "train_flops": result.train_flops,
        "eval_flops": result.eval_flops,
        "versions": json.dumps(dict(versions), sort_keys=True),
        "curve": result.epochs,
        "predictions": [
            {
                "checkpoint": str(checkpoint),
                "split": split,
                "n_classes": probabilities.shape[1],
                "probabilities": np.ascontiguousarray(probabilities, dtype=np.float32).ravel(),
            }
            for checkpoint, parts in result.predictions.items()
            for split, probabilities in parts.items()
        ],
    }
    return pa.Table.from_pylist([row], schema=shard_schema())
