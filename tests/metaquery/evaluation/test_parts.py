"""What a finished study is kept under: all code that decides its outcome, and none that only reads outcomes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import FrameType

import pytest

import metaquery as mq
from metaquery.evaluation.parts import READERS, deciding_code
from metaquery.evaluation.protocols import Protocol, folds, traits
from metaquery.evaluation.studies import Job, Studies, Terms, named

PACKAGE = Path(mq.__file__).parent


def is_reader(name: str) -> bool:
    return any(name == reader or name.startswith(f"{reader}/") for reader in READERS)


@pytest.mark.parametrize("reader", READERS)
def test_what_is_named_is_there(reader: str) -> None:
    path = PACKAGE / reader
    assert path.is_file() if reader.endswith(".py") else any(path.rglob("*.py"))


@pytest.mark.parametrize(
    ("name", "decides"),
    [
        ("evaluation/studies.py", True),
        ("evaluation/histories.py", True),
        ("optimizers/asha.py", True),
        ("optimizers/quicktune/predictor.py", True),
        ("schema/parquet.py", True),
        ("study.py", True),
        ("cli/studies.py", False),
        ("report/page.py", False),
        ("evaluation/statistics.py", False),
        ("verify.py", False),
    ],
)
def test_a_change_counts_where_it_can_change_a_study(tmp_path: Path, name: str, decides: bool) -> None:
    before, after = (shutil.copytree(PACKAGE, tmp_path / part, ignore=_all_but_code) for part in ("before", "after"))
    with (after / name).open("a") as file:
        file.write("# changed\n")
    assert (deciding_code(before) != deciding_code(after)) == decides
    assert deciding_code(before) == deciding_code(PACKAGE)


def test_no_code_that_a_study_runs_is_left_out(corpus_path: Path) -> None:
    ran: set[str] = set()

    def watch(frame: FrameType, event: str, argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if frame.f_code.co_name != "<module>" and path.is_relative_to(PACKAGE):
            ran.add(path.relative_to(PACKAGE).as_posix())

    def study() -> None:
        names = ("asha", "dehb", "portfolio")
        corpus = mq.open(corpus_path)
        terms = Terms(corpus.default_metric, 0, mq.Budget(trials=6), 2, "resume", "nearest", charge_optimizer=False)
        plan = folds(Protocol.load("lodo"), traits(corpus), None, None, None)
        studies = Studies(corpus, {name: named(name) for name in names}, terms)
        for name in names:
            part = studies.do(Job(name, plan[0], 0)).part
            assert part is not None
            assert part["outcome"]["error"] is None

    study()  # classes are defined by calls, too, when a module is first imported
    sys.setprofile(watch)
    try:
        study()
    finally:
        sys.setprofile(None)
    assert {"study.py", "evaluation/studies.py", "evaluation/histories.py", "dense.py"} <= ran
    assert {name for name in ran if is_reader(name)} == set()


def _all_but_code(directory: str, names: list[str]) -> list[str]:
    return [
        name for name in names if not name.endswith(".py") and not (Path(directory) / name / "__init__.py").is_file()
    ]
