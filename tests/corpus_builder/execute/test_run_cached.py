"""A run has the same curves whether its data were prepared, mapped from the cache, or could not be cached."""

from __future__ import annotations

from pathlib import Path

import pytest
from phantom_study import write_study

from corpus_builder.datasets import cache
from corpus_builder.execute import Place, RunDirectory, opener, run_plan, work
from corpus_builder.plan import make_plan
from corpus_builder.study import load_study

COSTS = {"train_seconds", "eval_seconds"}


def curves(run: RunDirectory) -> list[object]:
    rows = [row for unit in run.plan.units for row in run.read_shard(unit).to_pylist()]
    return [
        (row["trial_id"], row["predictions"], [{k: v for k, v in e.items() if k not in COSTS} for e in row["curve"]])
        for row in rows
    ]


def test_curves_are_the_same_with_and_without_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(load_study(write_study(tmp_path / "study.yaml", epochs=1, caps={"train": 30})))
    (tmp_path / "file").touch()
    found = []
    for name, place in (("plain", "file"), ("stored", "cache"), ("mapped", "cache")):
        monkeypatch.setenv("MEDCURVES_CACHE", str(tmp_path / place))
        work.prepared.cache_clear()
        work._load_data.cache_clear()
        if name == "mapped":
            monkeypatch.setattr(cache, "prepare", lambda *_: pytest.fail("it is in the cache"))
        run_plan(plan, tmp_path / name, Place(None, None))
        found.append(curves(RunDirectory.open(tmp_path / name)))
    assert len(found[0]) == len(plan.trials)
    assert found[0] == found[1] == found[2]


def test_worker_processes_leave_the_note_to_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(load_study(write_study(tmp_path / "study.yaml", epochs=1, caps={"train": 30})))
    (tmp_path / "file").touch()
    monkeypatch.setenv("MEDCURVES_CACHE", str(tmp_path / "file"))
    work.prepared.cache_clear()
    run_plan(plan, tmp_path / "run", Place(None, None), opener=opener("local", 2, None, tmp_path))
    assert capfd.readouterr().err.count("going on without a cache") == 1
