"""Studies in several processes: the same results, nothing finished lost whatever is killed, failures by name."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metaquery as mq
from metaquery.errors import InvalidInput, LeakageError, MissingExtra
from metaquery.evaluation import studies
from metaquery.evaluation.parts import Parts, part_key
from metaquery.optimizers import optimizer
from metaquery.optimizers.random import Random
from metaquery.space import Config

BUDGET = mq.Budget(seconds=300)


class Fragile(Random):
    """Random search that breaks at its third ask, where its seed is odd."""

    name = "fragile"

    def _ask(self, token: int) -> tuple[Config, int] | None:
        if self.seed % 2 and token == 2:
            raise ZeroDivisionError("division\nby zero")
        return super()._ask(token)


def fragile(seed: int) -> Fragile:
    return Fragile(seed=seed)


def kept(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (directory / "parts").glob("*.json")}


def test_any_number_of_processes_gives_the_same_bytes(corpus: mq.Corpus, tmp_path: Path) -> None:
    names = ["random", "asha", "portfolio"]
    for n in (None, 3):
        mq.evaluate(
            corpus,
            names,
            budget=BUDGET,
            seeds=2,
            datasets=["beta", "gamma"],
            workers=2,
            processes=n,
            out=tmp_path / str(n),
        )
    (first, *others) = [tmp_path / str(n) for n in (None, 3)]
    for other in others:
        assert kept(other) == kept(first)
        for name in ("results.parquet", "provenance.json", "report/index.html"):
            assert (other / name).read_bytes() == (first / name).read_bytes()
    assert len(kept(first)) == 3 * 2 * 2


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(
    command: Callable[..., Any], corpus_path: Path, tmp_path: Path
) -> None:
    def line(out: str) -> list[str]:
        script = str(Path(sys.executable).with_name("metaquery"))
        rest = [
            "--optimizers",
            "random,dehb",
            "--seeds",
            "2",
            "--datasets",
            "beta,gamma",
            "--budget",
            "5m",
            "--processes",
            "2",
            "--out",
        ]
        return [script, "evaluate", str(corpus_path), *rest, str(tmp_path / out)]

    whole = subprocess.run(line("whole"), capture_output=True, check=True, text=True)
    rng = np.random.default_rng()
    n_kept = 0
    for _ in range(2):
        process = subprocess.Popen(line("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(kept(tmp_path / "killed")) <= n_kept:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(kept(tmp_path / "killed")) > n_kept  # each attempt goes on where the one before was
        n_kept = len(kept(tmp_path / "killed"))
    before = kept(tmp_path / "killed")
    again = subprocess.run(line("killed"), capture_output=True, check=True, text=True)
    assert {name: kept(tmp_path / "killed")[name] for name in before} == before
    assert kept(tmp_path / "killed") == kept(tmp_path / "whole")
    for name in ("results.parquet", "provenance.json", "report/index.html"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == sorted(
        p.name for p in (tmp_path / "whole").iterdir()
    )
    assert again.stdout.splitlines()[0] == whole.stdout.splitlines()[0]


def test_processes_end_with_the_one_that_started_them(corpus_path: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time, multiprocessing, metaquery as mq\n"
        "from metaquery.evaluation.pool import Setup, _start\n"
        "if __name__ == '__main__':\n"
        "    hands = [_start(Setup((), {}, None, None)) for _ in range(2)]\n"
        "    print(*(process.pid for _, process in hands), flush=True)\n"
        "    time.sleep(600)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("processes", [None, 2])
def test_an_optimizer_that_raises_loses_its_own_studies_alone(
    corpus: mq.Corpus, tmp_path: Path, processes: int | None
) -> None:
    several = {"fragile": fragile, "random": studies.named("random")}
    options: dict[str, Any] = {"budget": mq.Budget(trials=4), "seeds": 4, "datasets": ["alpha", "beta"]}
    found = mq.evaluate(corpus, several, processes=processes, out=tmp_path / "out", **options)
    assert found.failures == [
        f"fragile on {dataset}, seeds 1, 3: ZeroDivisionError: division by zero" for dataset in ("alpha", "beta")
    ]
    alone = mq.evaluate(corpus, ["random"], **options)
    assert [r for r in found.results.to_pylist() if r["optimizer"] == "random"] == alone.results.to_pylist()
    assert found.analysis.final_regret("test")[0, :, 1::2].tolist() == [[1, 1], [1, 1]]
    assert (found.analysis.final_regret("test")[0, :, ::2] < 1).all()
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "4 of 16 studies failed and count as the worst: fragile (4)." in page
    assert len(kept(tmp_path / "out")) == 12  # failures are tried again


def test_failures_end_the_command_with_one_and_are_named(
    command: Callable[..., Any], corpus_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text(
        "from metaquery.optimizers.asha import Asha\n"
        "def broken(self, token):\n    raise RuntimeError(f'no more than {self.seed}')\n"
        "Asha._ask = broken\n"
    )
    line = ["evaluate", corpus_path, "--optimizers", "asha,random", "--seeds", 2, "--trials", 2, "--datasets", "beta"]
    done = command("metaquery", *line, "--out", tmp_path / "out", env={"PYTHONPATH": str(tmp_path / "broken")})
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == str(tmp_path / "out" / "report" / "index.html")
    assert done.stderr.splitlines()[-2:] == [
        f"failed: asha on beta, seed {seed}: RuntimeError: no more than {seed}" for seed in (0, 1)
    ]


def test_a_new_optimizer_leaves_the_finished_studies_as_they_are(corpus: mq.Corpus, tmp_path: Path) -> None:
    options: dict[str, Any] = {"budget": mq.Budget(trials=3), "seeds": 2, "datasets": ["beta"], "out": tmp_path / "out"}
    mq.evaluate(corpus, ["random"], **options)
    made = {name: (tmp_path / "out" / "parts" / name).stat().st_mtime_ns for name in kept(tmp_path / "out")}
    both = mq.evaluate(corpus, ["random", "asha"], **options)
    assert both.seconds["random"] == 0.0 < both.seconds["asha"]
    again = {name: (tmp_path / "out" / "parts" / name).stat().st_mtime_ns for name in kept(tmp_path / "out")}
    assert made.items() <= again.items()
    assert len(again) == 4
    mq.evaluate(corpus, ["random"], **(options | {"budget": mq.Budget(trials=4)}))
    assert len(kept(tmp_path / "out")) == 6  # another budget is another study


def test_damaged_and_half_written_studies_are_run_again(corpus: mq.Corpus, tmp_path: Path) -> None:
    options: dict[str, Any] = {"budget": mq.Budget(trials=3), "seeds": 2, "datasets": ["beta"], "out": tmp_path / "out"}
    mq.evaluate(corpus, ["random"], **options)
    whole, parts = kept(tmp_path / "out"), tmp_path / "out" / "parts"
    first, second = sorted(parts.glob("*.json"))
    first.write_bytes(first.read_bytes()[:100])
    second.write_bytes(first.with_suffix(".0.partial").write_text("{") and first.read_bytes())
    mq.evaluate(corpus, ["random"], **options)
    assert kept(tmp_path / "out") == whole
    assert list(parts.glob("*.partial")) == []


def test_a_study_is_known_by_all_that_defines_it(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts")
    key = part_key({"a": 1, "b": [2.5]})
    assert key == part_key({"b": [2.5], "a": 1})
    assert key != part_key({"a": 1, "b": [2.5000000000000004]})
    assert parts.read(key) is None
    parts.write(key, {"outcome": {"x": 0.1 + 0.2}})
    assert parts.read(key) == {"outcome": {"x": 0.1 + 0.2}, "key": key}
    (tmp_path / "parts" / f"{key}.json").rename(tmp_path / "parts" / "other.json")
    assert parts.read("other") is None


def test_functions_that_cannot_be_imported_stay_in_this_process(corpus: mq.Corpus, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="can run in other processes: leave processes out"):
        mq.evaluate(
            corpus,
            {"mine": lambda seed: optimizer("random", seed=seed)},
            budget=BUDGET,
            processes=2,
            out=tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()


def test_learners_are_prepared_once_for_each_set_of_training_datasets(
    corpus: mq.Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metaquery.optimizers.portfolio import Portfolio

    prepared = []
    monkeypatch.setattr(
        Portfolio, "prepare", lambda self: prepared.append([item.dataset for item in self.history.training])
    )
    found = mq.evaluate(corpus, ["portfolio", "random"], budget=mq.Budget(trials=2), seeds=3)
    assert prepared == [["beta"], ["alpha", "gamma"]]  # alpha and gamma, of one family, share theirs
    assert list(found.seconds) == ["opening", "meta-training", "portfolio", "random", "analysis"]


@pytest.mark.parametrize("error", [InvalidInput("the user's"), LeakageError("the user's"), MissingExtra("the user's")])
def test_what_the_user_can_mend_is_raised(corpus: mq.Corpus, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(self: Random, task: object) -> None:
        raise error

    monkeypatch.setattr(Random, "_bind", refuse)
    with pytest.raises(type(error), match="the user's"):
        mq.evaluate(corpus, ["random"], budget=BUDGET, seeds=1)


def test_the_time_of_each_part_adds_up(corpus: mq.Corpus) -> None:
    found = mq.evaluate(corpus, ["random"], budget=mq.Budget(trials=2), seeds=1)
    lines = found.time_of_parts().splitlines()
    assert [line.split()[0] for line in lines] == ["CPU", "opening", "random", "analysis", "together"]
    assert float(lines[-1].split()[1]) == pytest.approx(sum(found.seconds.values()), abs=0.01)
