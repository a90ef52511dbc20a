"""`metaquery import`: formats by name, refusals in a line, notes on standard output."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from conftest import assert_one_line_error

from metaquery.importers import import_formats

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_formats_are_the_modules() -> None:
    assert import_formats() == ["lcbench", "medquicktune", "quicktune", "table"]


def test_refusals(command: Command, tmp_path: Path) -> None:
    unknown = command("metaquery", "import", "quicktun", tmp_path, "--out", tmp_path / "corpus")
    assert_one_line_error(unknown, "unknown import format 'quicktun': did you mean quicktune")
    absent = command("metaquery", "import", "quicktune", tmp_path / "nothing", "--out", tmp_path / "corpus")
    assert_one_line_error(absent, "nothing does not exist")
    empty = command("metaquery", "import", "quicktune", tmp_path, "--out", tmp_path / "corpus")
    assert_one_line_error(empty, "has no file perf.json")
    directory = command("metaquery", "import", "lcbench", tmp_path, "--out", tmp_path / "corpus")
    assert_one_line_error(directory, "is not a JSON file")


def test_notes_are_printed(command: Command, tmp_path: Path) -> None:
    (tmp_path / "logs.csv").write_text("epoch,acc,lr\n1,0.5,0.1\n2,0.6,0.1\n1,0.4,0.2\n")
    (tmp_path / "mapping.yaml").write_text(
        "name: mine\nfile: logs.csv\ndataset: here\ncolumns: {epoch: epoch}\n"
        "metrics: {val_accuracy: acc}\nhyperparameters: {lr: {}}\n"
    )
    done = command("metaquery", "import", "table", tmp_path / "mapping.yaml", "--out", tmp_path / "corpus")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "- 2 trials on 1 dataset, 3 epochs: 1 completed, 1 early stopped."
    assert "no train_seconds" in lines[2]
    assert lines[-1] == f"written to {tmp_path / 'corpus'}"
    info = command("metaquery", "info", tmp_path / "corpus").stdout
    assert "imported     from table by metaquery" in info
    assert lines[0] in info
