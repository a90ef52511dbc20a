"""A full disk, a read-only directory, a trial that hangs, a plan that grows: a clear message, never a wrong corpus."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import assert_one_line_error
from run_tools import assert_clean, curves, environment, write_small_study

from corpus_builder.execute import Place, RunDirectory, run_plan
from corpus_builder.execute.leases import LeaseLost
from corpus_builder.execute.shards import append_rows
from corpus_builder.execute.status import run_status
from corpus_builder.execute.work import run_unit
from corpus_builder.plan import make_plan, write_plan
from corpus_builder.study import load_study
from metaquery.errors import InvalidInput

NOWHERE = Place(None, None)


def plan_of(path, **changes):
    return make_plan(load_study(write_small_study(path, **changes)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A plan of 6 trials in 3 units, and its run."""
    root = tmp_path_factory.mktemp("finished")
    plan = plan_of(root / "study.yaml", trials_per_unit=2)
    write_plan(plan, root / "plan.parquet")
    run_plan(plan, root / "run", NOWHERE)
    return root


def copy(finished, tmp_path):
    return RunDirectory.open(Path(shutil.copytree(finished / "run", tmp_path / "run")))


class TestAPlanThatGrows:
    """The directory keeps its units, however the new plan cuts them, and gets those of the trials that are new."""

    def test_just_the_new_trials_are_run(self, finished, tmp_path):
        run = copy(finished, tmp_path)
        before = {path: path.stat().st_mtime_ns for path in (run.root / "shards").iterdir()}
        larger = plan_of(tmp_path / "s.yaml", trials_per_unit=4, seeds=[0, 1])
        assert run_plan(larger, run.root, NOWHERE) == {"completed": 6}
        assert {path: path.stat().st_mtime_ns for path in before} == before
        found = curves(run.root)
        assert found.keys() == {trial.spec.trial_id for trial in larger.trials}
        assert found.items() >= curves(finished / "run").items()
        assert_clean(run.root)
        assert run_plan(larger, run.root, NOWHERE) == {}
        assert run_plan(run.plan, run.root, NOWHERE) == {}  # the smaller one is part of it
        assert len(RunDirectory.open(run.root).plan.trials) == 12

    def test_trials_of_an_unfinished_unit_are_not_run_again(self, finished, tmp_path):
        run = copy(finished, tmp_path)
        unit = run.plan.units[0]
        kept = run.read_shard(unit).slice(0, 1)
        run.shard_path(unit).unlink()
        append_rows(run.root / "trials" / unit.unit_id / "earlier.rows", kept)
        counted = run_status(run)
        assert [row["finished"] for row in counted.rows] == [5]
        larger = plan_of(tmp_path / "s.yaml", trials_per_unit=1, seeds=[0, 1])
        run_plan(larger, run.root, NOWHERE)
        assert run.read_shard(unit)["total_seconds"][0] == kept["total_seconds"][0]
        assert_clean(run.root)

    def test_a_plan_that_lacks_trials_of_the_directory_is_refused(self, finished, tmp_path):
        other = plan_of(tmp_path / "s.yaml", seeds=[1, 2])
        with pytest.raises(InvalidInput, match="begun for another plan, which has 6 trials that this one has not"):
            run_plan(other, finished / "run", NOWHERE)


def test_one_that_lost_its_lease_stores_nothing_more(finished, tmp_path):
    run = copy(finished, tmp_path)
    unit = run.plan.units[0]
    run.shard_path(unit).unlink()
    lease = run.leases.claim(unit.unit_id, 0)
    taken = []

    def taken_over(spec, result):
        taken.append(run.leases.claim(unit.unit_id, 1))

    with pytest.raises(LeaseLost):
        run_unit(run, unit, NOWHERE, lease, taken_over)
    assert len(list((run.root / "trials" / unit.unit_id).iterdir())) == 1
    assert not run.shard_path(unit).exists()
    lease.release()
    assert "1 of 2 trials" in run_status(run).in_work[0]
    taken[0].release()
    assert run_plan(run.plan, run.root, NOWHERE) == {"completed": 1}
    assert curves(run.root) == curves(finished / "run")


def test_a_unit_that_another_process_finishes_in_that_moment_disturbs_nobody(finished, tmp_path, monkeypatch):
    """The directory of its trials goes between the moment in which it is found and that in which it is listed."""
    run = copy(finished, tmp_path)
    first, second, _ = run.plan.units
    scandir = os.scandir

    def scandir_after_the_other(path):
        if str(path).endswith((first.unit_id, second.unit_id)):
            monkeypatch.setattr(os, "scandir", scandir)
            shutil.rmtree(path)
            monkeypatch.setattr(os, "scandir", scandir_after_the_other)
        return scandir(path)

    def with_trials(unit, shard):
        rows = run.read_shard(unit)
        append_rows(run.root / "trials" / unit.unit_id / "earlier.rows", rows.slice(0, 1))
        if not shard:
            run.shard_path(unit).unlink()

    with_trials(first, shard=True)
    with_trials(second, shard=False)
    monkeypatch.setattr(os, "scandir", scandir_after_the_other)
    assert [row["finished"] for row in run_status(run).rows] == [4]
    assert (run.root / "trials" / first.unit_id).is_dir()
    run.sweep("run")
    assert list((run.root / "trials").iterdir()) == []


def test_a_half_shard_and_a_half_trial_are_run_again(finished, tmp_path, capsys):
    run = copy(finished, tmp_path)
    first, second, _ = run.plan.units
    path = run.shard_path(first)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    rows = run.read_shard(second).slice(0, 1)
    run.shard_path(second).unlink()
    half = run.root / "trials" / second.unit_id / "earlier.rows"
    append_rows(half, rows)
    half.write_bytes(half.read_bytes()[:-1])
    assert run_plan(run.plan, run.root, NOWHERE) == {"completed": 4}
    assert "set aside a damaged shard" in capsys.readouterr().err
    assert curves(run.root) == curves(finished / "run")


ON_A_SMALL_DISK = """
set -u
mkdir {disk}
mount -t tmpfs -o size={first} tmpfs {disk}
cp {plan} {disk}/plan.parquet
{run} {disk}/plan.parquet --run-dir {disk}/run; echo "exit $?"
mount -o remount,{then} {disk}
{run} {disk}/plan.parquet --run-dir {disk}/run; echo "exit $?"
cp -r {disk}/run {out}
"""
needs_mount = pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode != 0
    if shutil.which("unshare")
    else True,
    reason="this system lets nobody mount",
)


def on_a_small_disk(tmp_path, plan, first, then):
    command = Path(sys.executable).with_name("corpus-builder")
    places = {"disk": tmp_path / "disk", "plan": plan, "out": tmp_path / "out", "run": f"{command} run"}
    script = ON_A_SMALL_DISK.format(**places, first=first, then=then)
    return subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)


@needs_mount
def test_a_full_disk_is_said_and_loses_nothing(finished, tmp_path):
    size = (finished / "plan.parquet").stat().st_size
    room = size * 2 + 72 * 1024  # for the plan twice, and not for all the rest
    done = on_a_small_disk(tmp_path, finished / "plan.parquet", f"{room // 1024}k", "size=20m")
    assert [line for line in done.stdout.splitlines() if line.startswith("exit")] == ["exit 2", "exit 0"], done
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert "cannot write" in error
    assert "No space left on device" in error
    assert "Traceback" not in done.stderr
    assert curves(tmp_path / "out") == curves(finished / "run")
    assert_clean(tmp_path / "out")


@needs_mount
def test_a_finished_run_on_a_read_only_disk_needs_nothing_and_an_unfinished_one_says_so(finished, tmp_path):
    done = on_a_small_disk(tmp_path, finished / "plan.parquet", "20m", "ro")
    assert [line for line in done.stdout.splitlines() if line.startswith("exit")] == ["exit 0", "exit 0"], done
    assert "nothing was left to do" in done.stdout
    larger = plan_of(tmp_path / "s.yaml", seeds=[0, 1])
    write_plan(larger, tmp_path / "larger.parquet")
    script = f"mount -t tmpfs tmpfs {tmp_path / 'disk'} && cp -r {tmp_path / 'out'} {tmp_path / 'disk' / 'run'} && "
    script += f"mount -o remount,ro {tmp_path / 'disk'} && exec {Path(sys.executable).with_name('corpus-builder')} "
    script += f"run {tmp_path / 'larger.parquet'} --run-dir {tmp_path / 'disk' / 'run'}"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: cannot write" in done.stderr
    assert "Read-only file system" in done.stderr


HANGING = """
import sys, time
from pathlib import Path
from corpus_builder.execute import Place, Terms, run_plan, work
from corpus_builder.plan import read_plan
from corpus_builder.train.records import TrialResult
plan = read_plan(Path(sys.argv[1]))
hanging = plan.trials[3].spec.trial_id

def trial(spec, data, place):
    if spec.trial_id == hanging:
        time.sleep(1000)
    return TrialResult(device="none", error="pretended")

work.run_any_trial = trial
print(dict(run_plan(plan, Path(sys.argv[2]), Place(None, None), terms=Terms(0.1, 3))))
"""


def test_a_trial_that_hangs_is_run_once_more_and_then_has_failed(finished, tmp_path):
    line = [sys.executable, "-c", HANGING, str(finished / "plan.parquet"), str(tmp_path / "run")]
    for _ in range(2):
        done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False, env=environment())
        assert done.returncode == 130, done
        assert "did not end within 3 s" in done.stderr
        assert "run the same command again to resume" in done.stderr
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False, env=environment())
    assert done.returncode == 0, done
    run = RunDirectory.open(tmp_path / "run")
    errors = [row[3] for row in curves(run.root).values()]
    assert sorted(errors) == ["did not end within 3 s, twice: its process was ended", *["pretended"] * 5]
    assert_clean(run.root)


def test_a_directory_whose_data_are_not_described_cannot_be_sealed(finished, tmp_path, command):
    run = copy(finished, tmp_path)
    shutil.rmtree(run.root / "data")
    refused = command("corpus-builder", "seal", run.root, "--out", tmp_path / "corpus")
    assert_one_line_error(refused, "phantom_nodules3d, fold 0, is not described yet", "run the plan again")
    assert run_plan(run.plan, run.root, NOWHERE) == {}
    assert_clean(run.root)
