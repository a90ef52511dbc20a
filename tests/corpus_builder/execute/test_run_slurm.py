"""Runs on a cluster: a Dask scheduler that runs already, and SLURM, with `sbatch` played by a script."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import assert_one_line_error
from distributed import default_client
from run_tools import assert_clean, curves, wait_for, write_small_study

from corpus_builder.execute import Place, run_plan
from corpus_builder.execute.clusters import local
from corpus_builder.execute.executors import device_of
from corpus_builder.execute.tasks import Terms
from corpus_builder.plan import make_plan, write_plan
from corpus_builder.study import load_study

OPTIONS = {"time": "04:00:00", "memory": "8GB"}


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A plan of 12 trials, and their curves in the process that made it."""
    root = tmp_path_factory.mktemp("planned")
    plan = make_plan(load_study(write_small_study(root / "study.yaml", epochs=2, seeds=[0, 1], trials_per_unit=2)))
    write_plan(plan, root / "plan.parquet")
    run_plan(plan, root / "run", Place(None, None))
    return root / "plan.parquet", curves(root / "run")


def write_options(path, **changes):
    path.write_text(yaml.safe_dump({**OPTIONS, **changes}))
    return path


def test_four_local_workers_give_the_same_curves_and_leave_no_files(planned, command, tmp_path):
    plan, expected = planned
    (tmp_path / "temporary").mkdir()
    arguments = ("run", plan, "--run-dir", tmp_path / "run", "--workers", 4)
    done = command("corpus-builder", *arguments, env={"TMPDIR": str(tmp_path / "temporary")}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "12 completed" in done.stdout
    assert "12/12 trials, 24 epochs" in done.stderr
    assert "distributed" not in done.stderr
    assert curves(tmp_path / "run") == expected
    assert_clean(tmp_path / "run")
    assert [path for path in tmp_path.rglob("*") if path.is_file() and tmp_path / "run" not in path.parents] == []


def test_a_scheduler_that_runs_already_gives_the_same_curves(planned, command, tmp_path):
    plan, expected = planned
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    file = tmp_path / "scheduler.json"
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", file, "--nthreads", "2"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path, "start_new_session": True}
    servers = [subprocess.Popen([*dask, "--no-dashboard", "--scheduler-file", str(file)], **quiet)]
    try:
        wait_for(lambda: file.exists() and file.read_text().endswith("}"))
        servers += [subprocess.Popen([*map(str, worker), "--no-dashboard"], **quiet)]
        address = yaml.safe_load(file.read_text())["address"]
        done = command("corpus-builder", "run", plan, "--run-dir", tmp_path / "run", "--scheduler", address)
    finally:
        for server in servers:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    assert done.returncode == 0, done.stderr
    assert curves(tmp_path / "run") == expected
    assert_clean(tmp_path / "run")
    again = ("run", plan, "--run-dir", tmp_path / "second", "--scheduler", "tcp://127.0.0.1:9")
    assert_one_line_error(command("corpus-builder", *again), "no Dask scheduler answers at tcp://127.0.0.1:9")
    assert not (tmp_path / "second").exists()


def test_the_job_script_asks_for_what_the_options_say(planned, command, tmp_path):
    options = write_options(
        tmp_path / "slurm.yaml",
        partition="gpu",
        account="lab",
        gpus=2,
        workers_per_gpu=3,
        cpus_per_worker=2,
        memory="48GB",
        directives=["--qos=long"],
        prologue=["module load cuda"],
    )
    arguments = ("run", planned[0], "--run-dir", tmp_path / "run", "--scheduler", "slurm", "--slurm", options)
    done = command("corpus-builder", *arguments, "--dry-run")
    assert done.returncode == 0, done.stderr
    *header, last = [line for line in done.stdout.splitlines() if line]
    assert header == [
        "#!/usr/bin/env bash",
        "#SBATCH -J medcurves",
        "#SBATCH -p gpu",
        "#SBATCH -A lab",
        "#SBATCH -n 1",
        "#SBATCH --cpus-per-task=12",
        "#SBATCH --mem=45G",  # 48 GB in units of 1024**3, rounded up
        "#SBATCH -t 04:00:00",
        "#SBATCH --gres=gpu:2",
        f"#SBATCH --output={tmp_path}/run/logs/%j.txt",
        "#SBATCH --qos=long",
        "module load cuda",
    ]
    assert last.startswith(f"{sys.executable} -m distributed.cli.dask_worker tcp://SCHEDULER --name medcurves ")
    assert "--nworkers 6" in last
    assert last.endswith("--nthreads 1 --no-dashboard")
    assert not (tmp_path / "run").exists()


SBATCH = """#!/bin/sh
[ "$1" = --test-only ] && exit 0
echo "$@" >> {log}
cp "$1" {log}.$$.sh
setsid sh {log}.$$.sh > {log}.$$.txt 2>&1 &
echo $! >> {log}.pids
echo "Submitted batch job $$"
"""


def test_slurm_jobs_give_the_same_curves(planned, command, tmp_path):
    """Each job is a process of this machine; `scancel` is what ends them."""
    plan, expected = planned
    log = tmp_path / "jobs"
    programs = {"sbatch": SBATCH.format(log=log), "scancel": f'#!/bin/sh\necho "cancel $@" >> {log}\n'}
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    options = write_options(tmp_path / "slurm.yaml", gpus=0, workers_per_gpu=2, interface="lo")
    path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    arguments = ("run", plan, "--run-dir", tmp_path / "run", "--scheduler", "slurm", "--slurm", options)
    try:
        done = command("corpus-builder", *arguments, "--workers", 2, env=path, cwd=tmp_path)
    finally:
        for pid in Path(f"{log}.pids").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(pid), signal.SIGKILL)
    assert done.returncode == 0, done.stderr
    assert "12 completed" in done.stdout
    assert curves(tmp_path / "run") == expected
    assert_clean(tmp_path / "run")
    jobs = log.read_text().splitlines()
    assert [line.startswith("cancel") for line in jobs] == [False, True]


def test_a_job_that_sbatch_refuses_and_no_sbatch_are_said(planned, command, tmp_path):
    options = write_options(tmp_path / "slurm.yaml", interface="lo")
    arguments = ("run", planned[0], "--run-dir", tmp_path / "run", "--scheduler", "slurm", "--slurm", options)
    assert_one_line_error(command("corpus-builder", *arguments, env={"PATH": "/nowhere"}), "sbatch is not here")
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    refused = command("corpus-builder", *arguments, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert_one_line_error(refused, "sbatch refuses the job", "invalid partition")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"time": 14400}, ["put it in quotes"]),
        ({"gpu": 1}, ["slurm.schema.json", "'gpu' was unexpected"]),
        ({"memory": "much"}, ["memory: 'much'"]),
    ],
)
def test_options_that_cannot_be_used_are_said(planned, command, tmp_path, changes, words):
    options = write_options(tmp_path / "slurm.yaml", **changes)
    arguments = ("run", planned[0], "--run-dir", tmp_path / "run", "--scheduler", "slurm", "--slurm", options)
    assert_one_line_error(command("corpus-builder", *arguments), *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scheduler", "slurm"], "--slurm OPTIONS.yaml"),
        (["--scheduler", "pbs"], "expected inline, local, slurm or tcp://HOST:PORT"),
        (["--scheduler", "inline", "--workers", "2"], "use --scheduler local"),
        (["--scheduler", "tcp://127.0.0.1:9", "--workers", "2"], "leave --workers out"),
        (["--dry-run"], "--scheduler slurm"),
    ],
)
def test_schedulers_that_cannot_be_used_are_said(planned, command, tmp_path, arguments, words):
    done = command("corpus-builder", "run", planned[0], "--run-dir", tmp_path / "run", *arguments)
    assert_one_line_error(done, words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("beat", "seconds"), [(0.2, 10.0), (2.0, 24.0)])
def test_a_silent_worker_is_given_up_with_its_leases_but_not_while_it_may_be_busy(beat, seconds):
    with local(1, Place(None, None), Terms(beat), lambda *_: None):
        assert default_client().run_on_scheduler(_time_to_live) == seconds


def _time_to_live(dask_scheduler):
    return dask_scheduler.worker_ttl


def test_workers_take_the_gpus_in_turn(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [device_of("cuda", name) for name in (0, 1, 2, "medcurves-3")] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert device_of("cuda", "medcurves") == "cuda"
    assert device_of("cuda:1", 0) == "cuda:1"
    assert device_of("cpu", 3) == "cpu"
