"""The commands run, evaluate and report, as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import assert_one_line_error

Command = Callable[..., Any]


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_run_writes_a_trajectory_that_is_the_same_every_time(
    command: Command, corpus_path: Path, tmp_path: Path
) -> None:
    line = ["run", corpus_path, "--optimizer", "dehb", "--dataset", "alpha", "--kind", "tabular", "--budget", "10m"]
    for directory, hash_seed in (("first", "1"), ("second", "2")):
        done = command(
            "metaquery",
            *line,
            "--workers",
            4,
            "--seed",
            3,
            "--out",
            tmp_path / directory,
            env={"PYTHONHASHSEED": hash_seed},
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
    assert done.stdout.splitlines()[0].startswith("dehb on alpha: ")
    assert done.stdout.splitlines()[-1] == f"written to {tmp_path / 'second'}"
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    stamp = json.loads((tmp_path / "first" / "trajectory.json").read_text())
    assert (stamp["optimizer"]["seed"], stamp["workers"], stamp["budget"]["seconds"]) == (3, 4, 600.0)
    assert pq.read_table(tmp_path / "first" / "evaluations.parquet").num_rows == stamp["evaluations"]


def test_run_without_a_directory_only_says_how_it_went(command: Command, corpus_path: Path, tmp_path: Path) -> None:
    line = ["run", corpus_path, "--optimizer", "random", "--dataset", "beta", "--trials", 3, "--charging", "restart"]
    done = command("metaquery", *line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "random on beta: 3 evaluations" in done.stdout
    assert "ended out of trials" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_evaluate_ends_with_the_report_and_report_rebuilds_it(
    command: Command, corpus_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    line = [
        "evaluate",
        corpus_path,
        "--optimizers",
        "random,dehb",
        "--protocol",
        "lodo",
        "--seeds",
        2,
        "--budget",
        "5m",
    ]
    done = command("metaquery", *line, "--datasets", "alpha,beta", "--workers", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == str(out / "report" / "index.html")
    assert Path(lines[-1]).is_file()
    assert lines[0].split() in (["optimizer", "random", "dehb"], ["optimizer", "dehb", "random"])
    assert done.stderr.splitlines()[-1].startswith("8/8 studies: ")
    parts = [line.split()[0] for line in lines[lines.index("CPU time") + 1 : -2]]
    assert parts == ["opening", "random", "dehb", "analysis", "report", "together"]
    before = contents(out)
    assert len([name for name in before if name.startswith("parts/")]) == 8
    for name in before:
        if name != "results.parquet" and not name.startswith("parts/"):
            (out / name).unlink()

    again = command("metaquery", "report", out)

    assert again.returncode == 0, again.stderr
    assert again.stdout == f"{out / 'report' / 'index.html'}\n"
    assert contents(out) == before


RUN = ["run", "--optimizer", "random", "--dataset", "alpha", "--budget", "1m"]
EVALUATE = ["evaluate", "--optimizers", "random", "--budget", "1m"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ([*RUN, "--optimizer", "randm"], ["unknown optimizer 'randm'", "did you mean random"]),
        ([*RUN, "--dataset", "alfa"], ["unknown dataset 'alfa'"]),
        ([*RUN, "--budget", "soon"], ["'soon' is not a duration"]),
        ([*RUN, "--trials", "0"], ["budget trials must be a positive number, got 0"]),
        (RUN[:-2], ["a budget needs at least one limit"]),
        ([*RUN, "--workers", "0"], ["workers must be a positive integer, got 0"]),
        ([*RUN, "--kind", "magic"], ["magic"]),
        ([*RUN, "--noise"], ["unknown option of benchmark kind tabular 'noise'"]),
        ([*RUN, "--trial-seed", "99"], ["unknown seed of alpha fold 0 '99'"]),
        ([*RUN, "--charging", "free"], ["'free' is not one of"]),
        ([*RUN, "--seed", "-1"], ["seed must be an integer"]),
        ([*EVALUATE, "--optimizers", ","], ["at least one optimizer"]),
        ([*EVALUATE, "--protocol", "cross"], ["unknown protocol 'cross'"]),
        ([*EVALUATE, "--datasets", "alpha", "--train", "gamma"], ["gamma (training) and alpha (test) of family"]),
        ([*EVALUATE, "--seeds", "0"], ["seeds must be a positive integer"]),
        ([*EVALUATE, "--processes", "0"], ["processes must be a positive integer, got 0"]),
        ([*EVALUATE, "--workers", "0"], ["workers must be a positive integer, got 0"]),
        ([*EVALUATE[:-2]], ["a budget needs at least one limit"]),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    command: Command, corpus_path: Path, tmp_path: Path, line: list[str], words: list[str]
) -> None:
    done = command("metaquery", line[0], corpus_path, *line[1:], "--out", tmp_path / "out")
    assert_one_line_error(done, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_in_use_is_refused(command: Command, corpus_path: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for line in (RUN, EVALUATE):
        done = command("metaquery", line[0], corpus_path, *line[1:], "--out", tmp_path)
        assert_one_line_error(done, "already holds something else (thesis.tex)")
    assert_one_line_error(command("metaquery", "report", tmp_path), "is not the output of metaquery evaluate")
    assert_one_line_error(
        command("metaquery", "report", tmp_path / "nowhere"), "is not the output of metaquery evaluate"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
