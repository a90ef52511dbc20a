"""A run loses nothing, whatever is killed, and whenever."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time

import pytest
from run_tools import assert_clean, curves, start, stored, wait_for, write_small_study

from corpus_builder.execute import Place, run_plan
from corpus_builder.plan import make_plan, write_plan
from corpus_builder.study import load_study


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Plans of very short trials by their number of seeds, each with the curves of a run that nothing disturbed."""
    root = tmp_path_factory.mktemp("undisturbed")
    made = {}

    def get(seeds):
        if seeds not in made:
            study = write_small_study(root / f"{seeds}.yaml", seeds=list(range(seeds)), trials_per_unit=4)
            plan = make_plan(load_study(study))
            write_plan(plan, root / f"{seeds}.parquet")
            run_plan(plan, root / f"{seeds}", Place(None, None))
            made[seeds] = root / f"{seeds}.parquet", curves(root / f"{seeds}")
        return made[seeds]

    return get


@pytest.mark.parametrize(
    ("workers", "kills", "seeds"),
    [
        (1, 3, 8),
        (3, 2, 8),
        pytest.param(1, 20, 40, marks=pytest.mark.slow),
        pytest.param(3, 20, 40, marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments_it_has_exactly_the_planned_trials(undisturbed, tmp_path, workers, kills, seeds):
    """Killed while it starts, or after up to four trials more and some milliseconds; with all processes, or alone."""
    plan, expected = undisturbed(seeds)
    root, rng = tmp_path / "run", random.Random(workers)
    for kill in range(kills):
        process = start(plan, root, "--workers", workers)
        if rng.random() < 0.2:
            time.sleep(rng.uniform(0, 4))
        else:
            target = stored(root) + rng.randrange(5)
            wait_for(lambda enough=target: any(root.glob("leases/*")) and stored(root) >= enough, process)
            time.sleep(rng.uniform(0, 0.05))
        assert process.poll() is None, f"it ended before kill {kill}: {process.communicate()}"
        if rng.random() < 0.7:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()  # its workers notice
        process.communicate()
    process = start(plan, root, "--workers", workers)
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    assert curves(root) == expected
    assert_clean(root)


def test_a_killed_worker_costs_one_trial_and_the_run_goes_on(undisturbed, tmp_path):
    plan, expected = undisturbed(12)
    process = start(plan, tmp_path / "run", "--workers", 2)
    first = worker_after(3, tmp_path / "run", process)
    os.kill(first, signal.SIGKILL)
    os.kill(worker_after(9, tmp_path / "run", process, but=first), signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    assert stderr.count("has died") == 2
    assert "72 completed" in stdout
    assert curves(tmp_path / "run") == expected
    assert_clean(tmp_path / "run")


def test_a_worker_that_freezes_loses_its_unit_to_another(undisturbed, tmp_path):
    plan, expected = undisturbed(12)
    process = start(plan, tmp_path / "run", "--workers", 2, "--beat", 0.2)
    os.kill(worker_after(3, tmp_path / "run", process), signal.SIGSTOP)
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    assert "has died" in stderr
    assert curves(tmp_path / "run") == expected
    assert_clean(tmp_path / "run")


def worker_after(files, root, process, but=None):
    """A process that holds a unit, and is not `but`, once that many files of finished trials and units are there."""
    found = []

    def look():
        if stored(root) >= files:
            for lease in root.glob("leases/[0-9a-f]*.*"):
                with contextlib.suppress(OSError, ValueError):
                    found.append(json.loads(lease.read_text())["pid"])
        return any(pid != but for pid in found)

    wait_for(look, process)
    return next(pid for pid in found if pid != but)


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_it_says_how_to_go_on(undisturbed, tmp_path, workers):
    plan, _ = undisturbed(12)
    process = start(plan, tmp_path / "run", "--workers", workers)
    wait_for(lambda: stored(tmp_path / "run") > 0, process)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again to resume" in stderr
    assert "Traceback" not in stderr


def test_two_runs_in_one_directory_share_the_work(undisturbed, tmp_path):
    plan, expected = undisturbed(12)
    processes = [start(plan, tmp_path / "run", *options) for options in ((), ("--workers", 2))]
    done = 0
    for process in processes:
        stdout, stderr = process.communicate(timeout=200)
        assert process.returncode == 0, stderr
        done += int(stdout.split(": ")[1].split()[0]) if "completed" in stdout else 0
    assert done == len(expected)
    assert curves(tmp_path / "run") == expected
    assert_clean(tmp_path / "run")
