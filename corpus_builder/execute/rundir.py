"""The run directory: all that a run knows, as files that are there whole or not at all.

plan.parquet            what is to be run; a plan that adds trials replaces it and leaves the units that it has
weights.json            SHA-256 of the weights file of each pretrained backbone
data/DATASET-FOLD/      datasets.parquet, splits.parquet, metafeatures.parquet: what it is run on
shards/UNIT.parquet     one row per trial of a finished unit: its columns, curve and predictions
trials/UNIT/            the same for the finished trials of a unit that is not finished: a file for each process
leases/                 who works on which unit at this moment
logs/                   what the jobs of a cluster say

Any number of processes work in it at once, see `corpus_builder.execute.leases`.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from corpus_builder.execute.leases import Leases
from corpus_builder.execute.shards import append_rows, read_appended, read_rows, trial_row, write_rows
from corpus_builder.files import PARTIAL, files_below, replace_file
from corpus_builder.plan import Plan, Unit, read_plan, write_plan
from corpus_builder.train.records import TrialResult, TrialSpec
from metaquery.errors import InvalidData, InvalidInput
from metaquery.schema import table

DATA_TABLES = ("datasets", "splits", "metafeatures")
_PLAN, _LEASES, _LOGS = "plan.parquet", "leases", "logs"


class RunDirectory:
    """A run on disk. `create` makes or extends it for a plan, `open` reads an existing one."""

    def __init__(self, root: Path, plan: Plan) -> None:
        self.root = root
        self.plan = plan
        self.leases = Leases(root / _LEASES)

    @classmethod
    def create(cls, root: Path, plan: Plan) -> RunDirectory:
        """The run directory at `root`, with the trials of `plan` that it does not have yet added to its own plan.

        Raises InvalidInput where neither of the two plans has all trials of the other. Only one process may do this
        at a time.
        """
        known = _known(root)
        run = cls(root, plan if known is None else _extended(known, plan, root))
        if run.plan != known:
            write_plan(run.plan, root / _PLAN)
        return run

    @classmethod
    def preview(cls, root: Path, plan: Plan) -> RunDirectory:
        """What `create` will give, with nothing written."""
        known = _known(root)
        return cls(root, plan if known is None else _extended(known, plan, root))

    @classmethod
    def open(cls, root: Path) -> RunDirectory:
        """The run directory at `root`."""
        if not (root / _PLAN).is_file():
            raise InvalidInput(
                f"{root} is not a run directory: expected {_PLAN} in it; start one with  corpus-builder run"
            )
        return cls(root, read_plan(root / _PLAN))

    def shard_path(self, unit: Unit) -> Path:
        """Where the shard of `unit` is, or will be."""
        return self.root / "shards" / f"{unit.unit_id}.parquet"

    def pending(self) -> list[Unit]:
        """Units without a shard, in the plan's order."""
        return [unit for unit in self.plan.units if not self.shard_path(unit).exists()]

    def damaged(self, units: Iterable[Unit]) -> list[Unit]:
        """Those of `units` whose shard is there and cannot be read."""
        return [unit for unit in units if self.shard_path(unit).exists() and not self._is_sound(unit)]

    def set_aside(self, units: Iterable[Unit]) -> list[Path]:
        """Rename the shards of `units`, so that they are pending again; returns the new names."""
        return [self.shard_path(unit).rename(self.shard_path(unit).with_suffix(".damaged")) for unit in units]

    def sweep(self, own: str) -> None:
        """Remove what killed processes left half-written or no longer needed, unless another process is at work.

        `own` is the lease that this process holds.
        """
        leftovers = files_below(self.root, f"*{PARTIAL}*")
        others = {name: self.leases.generation(name) for name in self.leases.names() if name != own}
        if all(self.leases.holder(name) is None for name in others):
            for name, generation in others.items():
                self.leases.clear(name, generation)
            for path in leftovers:
                path.unlink(missing_ok=True)
            for unit in self.plan.units:
                if self.shard_path(unit).exists():
                    self._drop_trials(unit)

    def read_shard(self, unit: Unit, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a finished unit; InvalidData when the file is damaged or holds other trials.

        `columns` limits what is read, and so what is checked for damage.
        """
        return read_rows(self.shard_path(unit), [trial.spec.trial_id for trial in unit.trials], columns)

    def write_trial(self, unit: Unit, spec: TrialSpec, result: TrialResult, versions: Mapping[str, str]) -> None:
        """Store the result of a trial of `unit`, which the unit will not lose any more."""
        append_rows(self._trials_of(unit) / f"{_writer(os.getpid())}.rows", trial_row(spec, result, versions))

    def read_trials(self, unit: Unit, columns: Sequence[str] | None = None) -> dict[str, pa.Table]:
        """The rows that `write_trial` stored, by trial; damaged ones are left out."""
        found: dict[str, pa.Table] = {}
        for path in files_below(self._trials_of(unit), "*.rows"):
            with suppress(FileNotFoundError):  # another process has just finished the unit
                found |= read_appended(path, columns)
        return {
            trial.spec.trial_id: found[trial.spec.trial_id] for trial in unit.trials if trial.spec.trial_id in found
        }

    def mark_stalled(self, unit: Unit, spec: TrialSpec) -> bool:
        """Note that a process had to be ended because a trial of `unit` did not end; False where that is noted."""
        mark = self._trials_of(unit) / f"{spec.trial_id}.stalled"
        mark.parent.mkdir(parents=True, exist_ok=True)
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def finish(self, unit: Unit) -> None:
        """Make the shard of `unit` from the rows of its trials, which must all be there."""
        rows = self.read_trials(unit)
        write_rows(self.shard_path(unit), pa.concat_tables(rows[trial.spec.trial_id] for trial in unit.trials))
        self._drop_trials(unit)

    def check_weights(self, hashes: Mapping[str, str]) -> None:
        """Raise InvalidInput where the run was begun with other weights files than those of `hashes`."""
        for name, begun_with in self.weights().items():
            if hashes.get(name, begun_with) != begun_with:
                raise InvalidInput(
                    f"{self.root} was begun with another weights file of {name} (SHA-256 {begun_with}): put that one "
                    f"back, or give another --run-dir"
                )

    def record_weights(self, hashes: Mapping[str, str]) -> None:
        """Store the SHA-256 of the weights files by backbone; InvalidInput when the run was begun with other files."""
        self.check_weights(hashes)
        recorded = self.weights()
        if not hashes.items() <= recorded.items():
            with replace_file(self.root / "weights.json") as partial:
                partial.write_text(json.dumps({**recorded, **hashes}, indent=2) + "\n")

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
        """The rows of one of DATA_TABLES for a dataset and fold; InvalidData where they are not measured yet."""
        path = self._data_path(dataset, fold, name)
        if not path.exists():
            raise InvalidData(f"{dataset}, fold {fold}, is not described yet, {path} is missing: run the plan again")
        return pq.read_table(path, schema=table(name).arrow_schema())

    def has_data(self, dataset: str, fold: int) -> bool:
        """Whether `write_data` was done for the dataset and fold."""
        return all(self._data_path(dataset, fold, name).exists() for name in DATA_TABLES)

    def _data_path(self, dataset: str, fold: int, name: str) -> Path:
        return self.root / "data" / f"{dataset}-{fold}" / f"{name}.parquet"

    def _trials_of(self, unit: Unit) -> Path:
        return self.root / "trials" / unit.unit_id

    def _drop_trials(self, unit: Unit) -> None:
        shutil.rmtree(self._trials_of(unit), ignore_errors=True)

    def _is_sound(self, unit: Unit) -> bool:
        try:
            self.read_shard(unit)
        except InvalidData:
            return False
        return True


@cache
def _writer(process: int) -> str:
    """A name for what this process writes: a number alone comes again."""
    return f"{process}-{uuid.uuid4().hex[:8]}"


def _known(root: Path) -> Plan | None:
    """The plan of the run directory at `root`, None where there is none yet; InvalidInput where something else is."""
    if (root / _PLAN).exists():
        return read_plan(root / _PLAN)
    if root.exists() and (not root.is_dir() or any(map(_is_foreign, root.iterdir()))):
        raise InvalidInput(f"{root} is not a run directory and not empty: give another --run-dir")
    return None


def _extended(known: Plan, given: Plan, root: Path) -> Plan:
    """The plan with the trials of both. Known units stay as they are, however `given` cuts their trials."""
    old = {trial.spec.trial_id for trial in known.trials}
    new = {trial.spec.trial_id: trial for trial in given.trials}
    if new.keys() < old:
        return known
    if missing := len(old - new.keys()):
        raise InvalidInput(
            f"{root} was begun for another plan, which has {missing} trials that this one has not: give another "
            f"--run-dir, or the plan it was begun for, or one that only adds to it"
        )
    units = [Unit(unit.unit_id, tuple(new[trial.spec.trial_id] for trial in unit.trials)) for unit in known.units]
    added = [tuple(trial for trial in unit.trials if trial.spec.trial_id not in old) for unit in given.units]
    return replace(given, units=(*units, *(Unit.of(trials) for trials in added if trials)))


def _is_foreign(path: Path) -> bool:
    """Whether a run that was killed before it stored its plan cannot have left `path`."""
    return path.name not in (_LEASES, _LOGS) and PARTIAL not in path.name
