"""Starting, watching and killing runs, and reading what they stored."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from phantom_study import grid_of, write_study

from corpus_builder.execute import RunDirectory
from corpus_builder.execute.shards import read_appended
from corpus_builder.files import files_below

COSTS = {"train_seconds", "eval_seconds"}


def write_small_study(path: Path, **changes: Any) -> Path:
    """Write a study of 6 trials of one epoch; `changes` replace its entries."""
    grid = grid_of(["tiny_3d.scratch"], lr=[1e-4, 1e-3, 1e-2], optimizer=["adamw", "momentum"])
    return write_study(path, **{"epochs": 1, "designs": {"grid": grid}, **changes})


def curves(root: Path) -> dict[str, list[object]]:
    """Curve, predictions and status of every trial that has a shard, without what the clock decides."""
    run = RunDirectory.open(root)
    found: dict[str, list[object]] = {}
    for unit in run.plan.units:
        if run.shard_path(unit).exists():
            for row in run.read_shard(unit).to_pylist():
                epochs = [{k: v for k, v in epoch.items() if k not in COSTS} for epoch in row["curve"]]
                assert row["trial_id"] not in found, "a trial was run twice"
                found[row["trial_id"]] = [epochs, row["predictions"], row["status"], row["error"]]
    return found


def assert_clean(root: Path) -> None:
    """A finished run has one shard for each unit and nothing left over."""
    units = {unit.unit_id for unit in RunDirectory.open(root).plan.units}
    assert {path.stem for path in (root / "shards").iterdir()} == units
    assert [path for path in root.rglob("*") if ".partial-" in path.name] == []
    assert list((root / "trials").iterdir()) == []
    assert list((root / "leases").iterdir()) == []


def start(plan: Path, root: Path, *options: object, **popen: Any) -> subprocess.Popen[str]:
    """`corpus-builder run` as the leader of a process group of its own."""
    line = [Path(sys.executable).with_name("corpus-builder"), "run", plan, "--run-dir", root, *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [str(part) for part in line], stdout=pipe, stderr=pipe, text=True, start_new_session=True, **popen
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Until `condition` holds or `process` has ended; fails after two minutes."""
    deadline = time.monotonic() + 120
    while not condition() and (process is None or process.poll() is None):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def stored(root: Path) -> int:
    """Number of finished trials."""
    count = sum(pq.read_metadata(path).num_rows for path in root.glob("shards/*.parquet"))
    for path in files_below(root / "trials", "*.rows"):
        with suppress(FileNotFoundError):  # its unit has just been finished
            count += len(read_appended(path, ["status"]))
    return count


def environment(**changes: str) -> dict[str, str]:
    """The environment of this process with `changes`."""
    return {**os.environ, **changes}
