"""`metaquery info`, `verify` and `sql`, run as a user runs them."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import assert_one_line_error

import metaquery as mq

Command = Callable[..., subprocess.CompletedProcess[str]]
QUERY = "select dataset, count(*) as trials from trials group by 1 order by 1"


def test_info(command: Command, corpus_path: Path) -> None:
    done = command("metaquery", "info", corpus_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == mq.open(corpus_path).describe() + "\n"


def test_verify(command: Command, corpus_path: Path, corpus_copy: Path) -> None:
    done = command("metaquery", "verify", corpus_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{corpus_path}: sound\n", "")
    (corpus_copy / "notes.txt").write_text("x")
    done = command("metaquery", "verify", corpus_copy)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == ["notes.txt: the file is not in corpus.json", f"{corpus_copy}: 1 problems"]


def test_sql_formats(command: Command, corpus_path: Path, tmp_path: Path) -> None:
    rows = [("alpha", 66), ("beta", 66), ("gamma", 66)]
    done = command("metaquery", "sql", corpus_path, QUERY)
    assert done.stdout.splitlines() == ["dataset  trials", "-------  ------", *(f"{d:<7}  {n:>6}" for d, n in rows)]
    done = command("metaquery", "sql", corpus_path, QUERY, "--format", "csv")
    assert list(csv.reader(io.StringIO(done.stdout)))[1:] == [[d, str(n)] for d, n in rows]
    done = command("metaquery", "sql", corpus_path, QUERY, "--format", "json")
    assert json.loads(done.stdout) == [{"dataset": d, "trials": n} for d, n in rows]
    out = tmp_path / "out.parquet"
    done = command("metaquery", "sql", corpus_path, QUERY, "--format", "parquet", "--out", out)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert pq.read_table(out).to_pylist() == [{"dataset": d, "trials": n} for d, n in rows]


def test_bad_input_is_one_line(command: Command, corpus_path: Path, tmp_path: Path) -> None:
    (tmp_path / "unsealed").mkdir()
    for arguments, words in (
        (("info", "nonsense"), ("unknown corpus 'nonsense'",)),
        (("verify", "nonsense"), ("unknown corpus 'nonsense'",)),
        (("sql", "nonsense", "select 1"), ("unknown corpus 'nonsense'",)),
        (("info", tmp_path / "unsealed"), ("not a sealed corpus", "corpus-builder seal")),
        (("verify", tmp_path / "unsealed"), ("not a sealed corpus", "corpus-builder seal")),
        (("info", "hf://a/b"), ("expected hf://datasets/ORG/NAME",)),
        (("sql", corpus_path, "selec 1"), ("SQL: Parser Error",)),
        (("sql", corpus_path, "select x from trials"), ('"x" not found',)),
        (("sql", corpus_path, "copy trials to 'x'"), ("expected one SELECT statement, got COPY",)),
        (("sql", corpus_path, QUERY, "--format", "xml"), ("'xml' is not one of",)),
        (("sql", corpus_path, QUERY, "--format", "parquet"), ("--out FILE",)),
        (("sql", corpus_path, QUERY, "--format", "csv", "--out", tmp_path / "no" / "x.csv"), ("cannot write",)),
        (("sql", corpus_path), ("expected one of a query and --named NAME",)),
    ):
        done = command("metaquery", *arguments)
        assert_one_line_error(done, *words)
        assert done.stdout == ""
    assert not (tmp_path / "no").exists()


def test_output_into_a_closed_pipe(corpus_path: Path) -> None:
    script = Path(subprocess.sys.executable).with_name("metaquery")  # type: ignore[attr-defined]
    line = f"{script} sql {corpus_path} 'from curves' --format csv | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.startswith("trial_id,epoch,")
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [["--help"], ["info", "--help"], ["sql", "-h"], ["--version"]])
def test_help(command: Command, arguments: list[str]) -> None:
    done = command("metaquery", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "metaquery" in done.stdout
