"""Everything that README shows is run, and what it prints is what README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import metaquery as mq

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
MAKE = re.compile(r"^make (\w+)", flags=re.MULTILINE)


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


@pytest.fixture
def workplace(tmp_path):
    """An empty directory with the study files beside it, as in a checkout."""
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    return tmp_path


def shell(line: str, directory: Path) -> str:
    done = subprocess.run(
        line, shell=True, cwd=directory, env=ENVIRONMENT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_block_is_of_a_kind_that_is_run():
    assert {kind for kind, _ in BLOCKS} == {"sh", "console", "python"}


@pytest.mark.parametrize("block", blocks("console"))
def test_console_blocks_print_what_readme_shows(block, workplace):
    command, _, expected = block.removeprefix("$ ").partition("\n")
    assert shell(command, workplace) == expected


@pytest.mark.parametrize("block", [text for text in blocks("sh") if not MAKE.match(text)])
def test_shell_blocks_run_line_by_line(block, workplace):
    for line in block.splitlines():
        shell(line, workplace)
    if "evaluate" in block:
        assert (workplace / "evaluation" / "report" / "index.html").is_file()


def test_the_make_targets_of_readme_are_what_ci_runs():
    shown = {target for text in blocks("sh") for target in MAKE.findall(text)}
    assert shown == {"demo", "test"}
    assert set(MAKE.findall((ROOT / ".ci" / "run").read_text())) == shown


def test_python_blocks_run(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert "best validation auc" in capsys.readouterr().out
    y_true, y_prob = names["y_true"], names["y_prob"]
    assert y_prob.shape[0] == y_true.shape[0] > 0


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_sizes_of_the_bundled_corpora_are_those_that_readme_gives():
    trials = mq.open("mini").table("trials")
    assert f"{len(trials)} trials of {max(trials['epochs_planned'].to_pylist())} epochs" in README
    medcurves = mq.open("medcurves")
    counts = len(medcurves.table("trials")), len(medcurves.table("backbones"))
    assert "{:,} trials of {} backbones on ten datasets".format(*counts) in README
    assert len(medcurves.datasets) == 10
