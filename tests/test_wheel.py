"""The wheel holds all that the packages read: schemas, cards, the bundled corpus, the report's template."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SCRIPT = """
import metaquery as mq, corpus_builder.datasets as datasets, metaquery.schema as schema
from pathlib import Path
here = Path.cwd()
assert Path(mq.__file__).is_relative_to(here), mq.__file__
corpus = mq.open("mini")
assert corpus.root.is_relative_to(here) and schema.schema_root().is_relative_to(here)
print(corpus.sql("select count(*) from trials").rows()[0][0], len(datasets.card_names()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    line = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        str(ROOT),
    ]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("medcurves-*.whl")
    return path


def test_it_has_the_files_that_are_not_code(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, target in (("schemas", "metaquery/schemas"), ("data_cards", "corpus_builder/data_cards")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file():
                assert f"{target}/{path.relative_to(ROOT / folder).as_posix()}" in names
    assert {"metaquery/py.typed", "corpus_builder/py.typed"} <= names
    assert {f"metaquery/report/page.{form}" for form in ("html", "css", "js")} <= names
    assert {f"metaquery/bundled/{name}/corpus.json" for name in ("mini", "medcurves")} <= names
    assert "metaquery/bundled/medcurves/surrogate/auc.npz" in names
    assert not [name for name in names if name.startswith("tests/")]


def test_it_works_away_from_the_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    trials, cards = map(int, done.stdout.split())
    assert trials >= 100
    assert cards > len(list((ROOT / "data_cards").glob("*.md")))  # those, and those of the tables
