"""SQL: right answers, one-line errors, and no way out of the corpus."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import metaquery as mq
from metaquery.errors import InvalidInput, MissingExtra, UnknownName
from metaquery.result import Result
from metaquery.schema.tables import TABLE_NAMES
from metaquery.views import NEEDS


def test_best_auc_by_backbone_three_ways(corpus: mq.Corpus) -> None:
    """SQL = polars = a plain loop."""
    result = corpus.sql(
        """select backbone, max(val_auc) auc from curves join trials using (trial_id) join configs using (config_id)
           group by 1 order by 1"""
    )
    assert result.columns == ("backbone", "auc")
    frames = {name: pl.DataFrame(pl.from_arrow(corpus.table(name))) for name in ("curves", "trials", "configs")}
    by_polars = (
        frames["curves"]
        .join(frames["trials"], on="trial_id")
        .join(frames["configs"], on="config_id")
        .group_by("backbone")
        .agg(pl.col("val_auc").max().alias("auc"))
        .sort("backbone")
    )
    backbone = dict(frames["configs"].select("config_id", "backbone").iter_rows())
    config = dict(frames["trials"].select("trial_id", "config_id").iter_rows())
    best: dict[str, float] = {}
    for trial_id, value in frames["curves"].select("trial_id", "val_auc").iter_rows():
        name = backbone[config[trial_id]]
        best[name] = max(best.get(name, 0.0), value)
    assert result.rows() == by_polars.rows() == sorted(best.items())


def test_every_table_is_there(corpus: mq.Corpus) -> None:
    assert [row[0] for row in corpus.sql("show tables").rows()] == sorted([*TABLE_NAMES, *NEEDS])
    for name in TABLE_NAMES:
        assert corpus.sql(f"from {name}").arrow().num_rows == corpus.table(name).num_rows


def test_values_have_plain_types(corpus: mq.Corpus) -> None:
    row = corpus.sql(
        "select sum(epochs_run), count(*), date '2020-01-02', [1, 2], {'a': null}, 1.5::decimal(3, 1), null from trials"
    ).rows()[0]
    assert (type(row[0]), type(row[1])) == (int, int)
    assert row[2:5] == (date(2020, 1, 2), [1, 2], {"a": None})
    assert float(row[5]) == 1.5
    assert row[6] is None


def test_sums_beyond_64_bits_stay_exact(corpus: mq.Corpus) -> None:
    assert corpus.sql("select 170141183460469231731687303715::hugeint").rows() == [(170141183460469231731687303715,)]


@pytest.mark.parametrize(
    "query",
    ["explain select 1", "summarize trials", "describe trials", "pivot trials on status using count(*)", "values (1)"],
)
def test_reading_statements_work(corpus: mq.Corpus, query: str) -> None:
    assert len(corpus.sql(query)) > 0


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("selec 1", 'syntax error at or near "selec"'),
        ("select nothing from trials", '"nothing" not found'),
        ("from trial", "Table with name trial does not exist"),
        ("select 'x'::int", "Could not convert string 'x'"),
        ("", "expected one SELECT statement, got none"),
        ("-- only a comment", "expected one SELECT statement, got none"),
        ("select 1; select 2", "expected one SELECT statement, got SELECT and SELECT"),
    ],
)
def test_errors_are_one_line(corpus: mq.Corpus, query: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=r"^SQL: ") as caught:
        corpus.sql(query)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


OUT = "{out}"
CORPUS = "corpus://trials.parquet"
ATTACKS = [
    "select * from read_csv('/etc/passwd')",
    "select content from read_text('/etc/passwd')",
    "select * from read_blob('{root}/space.json')",
    "select * from sniff_csv('/etc/passwd')",
    "select * from '{root}/trials.parquet'",
    "select * from read_parquet('{root}/trials.parquet')",
    "select * from glob('/etc/*')",
    "select * from local_secret",
    "select * from python_arrow_scan(0, 0, 0)",
    "copy trials to '{out}'",
    "copy (select 1) to '{root}/trials.parquet' (use_tmp_file false)",
    f"copy (select 1 as a) to '{CORPUS}' (use_tmp_file false)",
    "with x as (copy (select 1) to '{out}') select * from x",
    f"with x as (copy (select 1 as a) to '{CORPUS}' (use_tmp_file false)) select * from x",
    f"with x as (copy (select 1 as a) to '{CORPUS}') select * from x",
    "with x as (copy (select 1 as a) to '{root}/trials.parquet' (use_tmp_file false)) select * from x",
    "explain analyze copy (select 1) to '{out}'",
    f"explain analyze copy (select 1 as a) to '{CORPUS}' (use_tmp_file false)",
    "explain analyze drop view trials",
    "drop view best_epoch",
    "create or replace view best_epoch as select 1",
    "copy learning_curves to '{out}' (format csv)",
    "with x as (copy best_epoch to '{out}') select * from x",
    "select * from read_json('{root}/corpus.json')",
    "select * from parquet_metadata('{root}/trials.parquet')",
    "set temp_directory = '{out}'",
    "set threads = 99",
    "set global memory_limit = '1TB'",
    "use other",
    "update extensions",
    "explain analyze create or replace view trials as select 1",
    "export database '{out}'",
    "attach '{out}' as other",
    f"attach '{CORPUS}' as other",
    "install httpfs",
    "load httpfs",
    "set enable_external_access = true",
    "set lock_configuration = false",
    "reset enable_external_access",
    "pragma enable_profiling",
    "select * from enable_profiling(save_location = '{out}')",
    "select * from enable_logging(storage = 'file', storage_path = '{out}')",
    "create table x as select 1",
    "create or replace view trials as select 1",
    "drop view trials",
    "insert into trials select * from trials",
    "call pragma_version()",
    "select * from query('copy (select 1) to ''{out}''')",
    "select getenv('HOME')",
    "select * from 'https://example.org/x.parquet'",
    "create secret s (type s3)",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_but_the_corpus_can_be_reached(corpus: mq.Corpus, tmp_path: Path, attack: str) -> None:
    local_secret = pa.table({"secret": [1]})
    assert local_secret.num_rows == 1  # a query could name this variable
    out = tmp_path / "out"
    before = {path: path.read_bytes() for path in corpus.root.rglob("*.*")}
    rows = corpus.sql("from trials").rows()
    with pytest.raises(InvalidInput, match=r"^SQL: "):
        corpus.sql(attack.format(out=out, root=corpus.root))
    assert not out.exists()
    assert {path: path.read_bytes() for path in corpus.root.rglob("*.*")} == before
    assert corpus.sql("from trials").rows() == rows


def test_queries_do_not_see_each_other(corpus: mq.Corpus) -> None:
    with pytest.raises(InvalidInput):
        corpus.sql("create temp table mine as select 1")
    with pytest.raises(InvalidInput, match="mine does not exist"):
        corpus.sql("from mine")


def test_odd_directory_names(corpus_copy: Path) -> None:
    odd = corpus_copy.rename(corpus_copy.with_name("it's [a] *corpus?"))
    assert mq.open(odd).sql("select count(*) from trials").rows() == [(198,)]


@pytest.fixture
def result() -> Result:
    values = {"name": ["a", "b,c", None], "value": [1.0, math.nan, 0.123456789], "count": [1, 20, 300]}
    return Result(pa.table(values))


def test_result_as_text(result: Result) -> None:
    assert str(result) == "\n".join(
        [
            "name     value  count",
            "----  --------  -----",
            "a            1      1",
            "b,c        nan     20",
            "null  0.123457    300",
        ]
    )
    assert repr(result) == str(result)
    assert len(result) == 3


def test_long_results_say_what_is_left_out() -> None:
    text = str(Result(pa.table({"x": list(range(1000)), "y": ["z" * 100] * 1000})))
    lines = text.splitlines()
    assert len(lines) == 2 + 40 + 1
    assert lines[-1] == "... and 960 more rows (of 1000)"
    assert lines[2] == " 0  " + "z" * 59 + "…"


def test_result_as_csv_and_json(result: Result) -> None:
    text = result.write("csv")
    assert text is not None
    assert list(csv.reader(io.StringIO(text))) == [
        ["name", "value", "count"],
        ["a", "1.0", "1"],
        ["b,c", "nan", "20"],
        ["", "0.123456789", "300"],
    ]
    text = result.write("json")
    assert text is not None
    assert json.loads(text) == [
        {"name": "a", "value": 1.0, "count": 1},
        {"name": "b,c", "value": None, "count": 20},
        {"name": None, "value": 0.123456789, "count": 300},
    ]
    assert Result(pa.table({"x": pa.array([], pa.int64())})).write("json") == "[]"
    nested = Result(pa.table({"x": [[1.0, math.inf]], "y": [{"z": math.nan}], "d": [date(2020, 1, 2)]}))
    assert json.loads(nested.write("json") or "") == [{"x": [1.0, None], "y": {"z": None}, "d": "2020-01-02"}]


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_result_to_a_file_is_the_text(result: Result, form: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    assert result.write(form, path) is None
    assert path.read_text().removesuffix("\n") == result.write(form)
    assert list(tmp_path.iterdir()) == [path]


def test_result_as_parquet(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    path.write_text("old")
    result.write("parquet", path)
    assert pq.read_table(path).equals(result.arrow().combine_chunks()) or str(pq.read_table(path)) == str(
        result.arrow()
    )
    with pytest.raises(InvalidInput, match="--out FILE"):
        result.write("parquet")
    with pytest.raises(InvalidInput, match="cannot write"):
        result.write("parquet", tmp_path / "nowhere" / "out.parquet")
    with pytest.raises(InvalidInput, match="cannot write"):
        result.write("csv", tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_format(result: Result) -> None:
    with pytest.raises(UnknownName, match="unknown format 'xml'"):
        result.write("xml")


def test_result_as_frames(result: Result) -> None:
    assert result.polars().rows()[0] == result.rows()[0] == ("a", 1.0, 1)
    assert list(result.pandas().columns) == ["name", "value", "count"]


def test_repeated_column_names(corpus: mq.Corpus) -> None:
    result = corpus.sql("select 1 as a, 2 as a")
    assert result.rows() == [(1, 2)]
    with pytest.raises(InvalidInput, match="name them with AS"):
        result.polars()
    with pytest.raises(InvalidInput, match="name them with AS"):
        result.write("json")


def test_without_pandas(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"pip install 'medcurves\[pandas\]'"):
        result.pandas()
