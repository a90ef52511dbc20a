"""The run directory: all that a run knows, as files that are there whole or not at all.

plan.parquet            what is to be run
weights.json            SHA-256 of the weights file of each pretrained backbone
data/DATASET-FOLD/      datasets.parquet, splits.parquet, metafeatures.parquet: what it is run on
shards/UNIT.parquet     one row per trial of a finished unit: its columns, curve and predictions
lock                    held by the process that runs the plan
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus_builder.files import PARTIAL, replace_file
from corpus_builder.plan import Plan, Unit, read_plan, write_plan
from corpus_builder.train.records import TrialResult, TrialSpec
from metaquery.errors import InvalidData, InvalidInput
from metaquery.schema import table

DATA_TABLES = ("datasets", "splits", "metafeatures")


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


class RunDirectory:
    """A run on disk. `create` makes it for a plan, `open` reads an existing one."""

    def __init__(self, root: Path, plan: Plan) -> None:
        self.root = root
        self.plan = plan

    @classmethod
    def create(cls, root: Path, plan: Plan) -> RunDirectory:
        """The run directory of `plan` at `root`: a new one, or the one that was begun for the same plan."""
        if (root / "plan.parquet").exists():
            run = cls.open(root)
            if run.plan.units != plan.units:
                raise InvalidInput(
                    f"{root} was begun for another plan: give another --run-dir, or the plan it was begun for"
                )
            return run
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise InvalidInput(f"{root} is not a run directory and not empty: give another --run-dir")
        write_plan(plan, root / "plan.parquet")
        return cls(root, plan)

    @classmethod
    def open(cls, root: Path) -> RunDirectory:
        """The run directory at `root`."""
        if not (root / "plan.parquet").is_file():
            raise InvalidInput(
                f"{root} is not a run directory: expected plan.parquet in it; start one with  corpus-builder run"
            )
        return cls(root, read_plan(root / "plan.parquet"))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory against a second runner; the lock dies with the process. Clears unfinished files."""
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InvalidInput(
                    f"{self.root} is being run by another process: wait for it, or stop it first"
                ) from None
            for leftover in self.root.rglob(f"*{PARTIAL}*"):
                leftover.unlink()
            yield
        finally:
            os.close(descriptor)

    def shard_path(self, unit: Unit) -> Path:
        """Where the shard of `unit` is, or will be."""
        return self.root / "shards" / f"{unit.unit_id}.parquet"

    def pending(self) -> list[Unit]:
        """Units without a shard, in the plan's order."""
        return [unit for unit in self.plan.units if not self.shard_path(unit).exists()]

    def set_aside_damaged(self) -> list[Path]:
        """Rename every shard that cannot be read, so that its unit is pending again; returns the new names."""
        moved = []
        for unit in self.plan.units:
            path = self.shard_path(unit)
            if path.exists():
                try:
                    self.read_shard(unit)
                except InvalidData:
                    moved.append(path.rename(path.with_suffix(".damaged")))
        return moved

    def write_shard(self, unit: Unit, results: list[TrialResult], versions: Mapping[str, str]) -> None:
        """Store the results of `unit`, in the order of its trials."""
        rows = [
            _shard_row(planned.spec, result, versions) for planned, result in zip(unit.trials, results, strict=True)
        ]
        with replace_file(self.shard_path(unit)) as partial:
            pq.write_table(
                pa.Table.from_pylist(rows, schema=shard_schema()), partial, compression="zstd", write_page_checksum=True
            )

    def read_shard(self, unit: Unit, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a finished unit; InvalidData when the file is damaged or holds other trials.

        `columns` limits what is read, and so what is checked for damage.
        """
        path = self.shard_path(unit)
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                schema = file.schema_arrow
                shard = file.read(None if columns is None else ["trial_id", *columns])
        except (pa.ArrowException, OSError) as error:
            raise InvalidData(f"shard {path} is damaged ({error}): delete it and run the plan again") from error
        expected = [trial.spec.trial_id for trial in unit.trials]
        if schema != shard_schema() or shard["trial_id"].to_pylist() != expected:
            raise InvalidData(f"shard {path} does not hold the trials of its unit: delete it and run the plan again")
        return shard

    def record_weights(self, hashes: Mapping[str, str]) -> None:
        """Store the SHA-256 of the weights files by backbone; InvalidInput when the run was begun with other files."""
        for name, begun_with in self.weights().items():
            if hashes.get(name) != begun_with:
                raise InvalidInput(
                    f"{self.root} was begun with another weights file of {name} (SHA-256 {begun_with}): put that one "
                    f"back, or give another --run-dir"
                )
        with replace_file(self.root / "weights.json") as partial:
            partial.write_text(json.dumps(dict(hashes), indent=2) + "\n")

    def weights(self) -> dict[str, str]:
        """What `record_weights` stored."""
        path = self.root / "weights.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def write_data(self, dataset: str, fold: int, tables: Mapping[str, pa.Table]) -> None:
        """Store the rows of `datasets`, `splits` and `metafeatures` of one dataset and fold."""
        for name in DATA_TABLES:
            with replace_file(self._data_path(dataset, fold, name)) as partial:
                pq.write_table(tables[name], partial, compression="zstd")

    def read_data(self, dataset: str, fold: int, name: str) -> pa.Table:
        """The rows of one of DATA_TABLES for a dataset and fold."""
        return pq.read_table(self._data_path(dataset, fold, name), schema=table(name).arrow_schema())

    def has_data(self, dataset: str, fold: int) -> bool:
        """Whether `write_data` was done for the dataset and fold."""
        return all(self._data_path(dataset, fold, name).exists() for name in DATA_TABLES)

    def _data_path(self, dataset: str, fold: int, name: str) -> Path:
        return self.root / "data" / f"{dataset}-{fold}" / f"{name}.parquet"


def _shard_row(spec: TrialSpec, result: TrialResult, versions: Mapping[str, str]) -> dict[str, Any]:
    return {
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
        "engine": "single",
        "fused_width": 1,
        "cost_source": "measured",
        "total_seconds": result.total_seconds,
        "peak_memory_bytes": result.peak_memory_bytes,
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
