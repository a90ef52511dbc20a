"""Several corpora as one: one query over all, each trial from the corpus that has it, clashes refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import assert_one_line_error
from factory import make_content, make_corpus, without_epochs

import metaquery as mq
from metaquery.errors import InvalidInput, UnknownName
from metaquery.schema.writer import write_corpus
from metaquery.verify import verify

MADE = {"builder_version": "0.0.0", "devices": ["cpu"], "provenance": {}}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets, as one would download them."""
    return make_corpus(tmp_path_factory.mktemp("union") / "released", datasets=("alpha", "beta"), name="released")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's run on another dataset, over the same configs and backbones."""
    return make_corpus(tmp_path_factory.mktemp("union") / "own", datasets=("gamma",), name="own", sobol=2)


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a dataset of the release: other seeds make other trials of the same configs on the same split."""
    content = make_content(datasets=("alpha",), failures=False, seed=0)
    tables = content["tables"]
    trials = tables["trials"].to_pylist()
    changed = {row["trial_id"]: f"{int(row['trial_id'], 16) ^ 1:016x}" for row in trials}
    rows = [{**row, "trial_id": changed[row["trial_id"]], "seed": row["seed"] + 7} for row in trials]
    curves = [{**row, "trial_id": changed[row["trial_id"]]} for row in tables["curves"].to_pylist()]
    tables = {
        **tables,
        "trials": pa.Table.from_pylist(rows, schema=tables["trials"].schema),
        "curves": pa.Table.from_pylist(curves, schema=tables["curves"].schema),
    }
    out = tmp_path_factory.mktemp("union") / "more"
    return write_corpus(out, name="more", version="1", **MADE, **{**content, "tables": tables, "predictions": None})


@pytest.fixture(scope="module")
def both(released: Path, own: Path) -> mq.Corpus:
    return mq.open([released, own])


def test_one_query_over_both(both: mq.Corpus, released: Path, own: Path) -> None:
    query = "select backbone, max(val_auc) auc from curves join trials using (trial_id) join configs using (config_id)"
    counts = dict(both.sql("select corpus, count(*) from trials group by 1").rows())
    alone = {name: mq.open(path) for name, path in (("released", released), ("own", own))}
    assert counts == {name: corpus.table("trials").num_rows for name, corpus in alone.items()}
    best: dict[str, float] = {}
    for corpus in alone.values():
        for backbone, auc in corpus.sql(f"{query} group by 1").rows():
            best[backbone] = max(best.get(backbone, 0.0), auc)
    assert dict(both.sql(f"{query} group by 1").rows()) == best
    rows = sum(corpus.table("curves").num_rows for corpus in alone.values())
    joined = "select count(*) from curves join trials using (trial_id) join configs using (config_id)"
    assert both.sql(joined).rows() == [(rows,)]


def test_what_both_have_is_there_once(both: mq.Corpus) -> None:
    for name in ("configs", "backbones", "datasets", "splits", "metafeatures", "trials", "curves"):
        rows = both.sql(f"select count(*) from {name}").rows()[0][0]
        assert both.table(name).num_rows == rows
    for name, key in (("configs", "config_id"), ("backbones", "backbone"), ("datasets", "dataset")):
        assert both.sql(f"select count(*) - count(distinct {key}) from {name}").rows() == [(0,)]


def test_identity_of_a_union(both: mq.Corpus, released: Path, own: Path) -> None:
    assert (both.name, both.version, both.epochs) == ("released+own", "1.0+1.0", 27)
    assert both.datasets == ("alpha", "beta", "gamma")
    assert both.space == mq.open(own).space
    assert both.hash != mq.open([own, released]).hash
    assert both.describe().startswith("released 1.0")
    assert "own 1.0" in both.describe()
    with pytest.raises(InvalidInput, match="several corpora"):
        both.path("trials.parquet")


def test_benchmarks_and_predictions_come_from_their_corpus(both: mq.Corpus, released: Path, own: Path) -> None:
    for path, dataset in ((released, "beta"), (own, "gamma")):
        alone = mq.open(path)
        bench, expected = both.benchmark(dataset), alone.benchmark(dataset)
        assert bench.source == alone.hash
        assert [bench.curve(c).value.tolist() for c in bench.configs] == [
            expected.curve(c).value.tolist() for c in expected.configs
        ]
        trial_id = alone.sql("select trial_id from trials where status = 'completed' limit 1").rows()[0][0]
        for got, wanted in zip(both.predictions(trial_id), alone.predictions(trial_id), strict=True):
            assert np.array_equal(got, wanted)
        assert both.prediction_file(dataset).path == alone.prediction_file(dataset).path
    with pytest.raises(UnknownName, match="unknown trial"):
        both.predictions("nope")
    with pytest.raises(UnknownName, match="unknown dataset 'gama': did you mean gamma"):
        both.benchmark("gama")
    with pytest.raises(UnknownName, match="unknown fold of gamma"):
        both.benchmark("gamma", fold=3)


def test_a_dataset_of_both_is_one_benchmark(released: Path, more: Path) -> None:
    union = mq.open([released, more])
    for seed, path in ((0, released), (7, more)):
        bench, expected = union.benchmark("alpha", seed=seed), mq.open(path).benchmark("alpha", seed=seed)
        assert bench.source == union.hash
        assert bench.configs == expected.configs
        assert [bench.curve(c).value.tolist() for c in bench.configs] == [
            expected.curve(c).value.tolist() for c in expected.configs
        ]
    trials, curves = union.curves("alpha", 0, ["epoch"])
    assert trials.num_rows == union.sql("select count(*) from trials where dataset = 'alpha'").rows()[0][0]
    assert curves["epoch"].to_pylist() == [e for n in trials["epochs_run"].to_pylist() for e in range(1, n + 1)]
    with pytest.raises(InvalidInput, match="released and more both have trials of alpha"):
        union.prediction_file("alpha")


def test_identical_trials_count_once(released: Path, tmp_path: Path) -> None:
    part = make_corpus(tmp_path / "part", datasets=("alpha",), name="part")
    union = mq.open([released, part])
    assert union.table("trials").num_rows == mq.open(released).table("trials").num_rows
    for name in ("trials", "curves", "splits", "configs"):
        assert union.sql(f"select count(*) from {name}").rows() == [(mq.open(released).table(name).num_rows,)]
    assert union.curves("alpha", 0, ["epoch"])[1].num_rows == mq.open(part).table("curves").num_rows


def rewritten(path: Path, change: Callable[[dict[str, list[dict[str, Any]]]], None], **options: Any) -> Path:
    """A corpus of `alpha` in whose rows `change` was made."""
    content = make_content(datasets=("alpha",), **options)
    rows = {name: data.to_pylist() for name, data in content["tables"].items()}
    change(rows)
    tables = {name: pa.Table.from_pylist(rows[name], schema=data.schema) for name, data in content["tables"].items()}
    return write_corpus(path, name="changed", version="1", **MADE, **{**content, "tables": tables, "predictions": None})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["datasets"][0].update(shape=[32, 32]), r"datasets: alpha is not the same .*shape is \[16, 16\]"),
        (lambda r: r["backbones"][0].update(flops=1), "backbones: tiny.scratch is not the same in released"),
        (lambda r: r["splits"].pop(), "splits: released and changed have other rows for alpha/0"),
        (lambda r: r["metafeatures"][0].update(value=-1.0), "metafeatures: alpha/0 is not the same"),
        (lambda r: r["trials"][0].update(total_seconds=1e6), "other trials for the same trials: [0-9a-f]{16}; keep"),
        (lambda r: r["curves"][0].update(train_loss=9.0), "have other curves for the same trials: [0-9a-f]{16}; keep"),
    ],
)
def test_clashes_are_refused(released: Path, tmp_path: Path, change: Any, message: str) -> None:
    changed = rewritten(tmp_path / "changed", change)
    with pytest.raises(InvalidInput, match=message):
        mq.open([released, changed])
    (problem,) = verify([released, changed])
    assert "same" in problem or "other rows" in problem


def test_measured_seconds_of_meta_features_may_differ(released: Path, tmp_path: Path) -> None:
    changed = rewritten(tmp_path / "changed", lambda rows: rows["metafeatures"][0].update(seconds=99.0))
    assert mq.open([released, changed]).datasets == ("alpha", "beta")


def test_a_backbone_that_has_epochs_in_one_of_them(released: Path, tmp_path: Path) -> None:
    content = without_epochs(make_content(datasets=("delta",)), "tiny.scratch")
    other = write_corpus(tmp_path / "other", name="other", version="1", **MADE, **content)
    with pytest.raises(InvalidInput, match=r"backbones: tiny\.scratch is not the same.*family"):
        mq.open([released, other])


def test_the_same_corpus_twice(released: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"two of the corpora are released 1\.0: give each once"):
        mq.open([released, released])
    newer = make_corpus(tmp_path / "newer", datasets=("delta",), name="released", version="2.0")
    union = mq.open([released, newer])
    named = {row[0] for row in union.sql("select distinct corpus from trials").rows()}
    assert named == {"released 1.0", "released 2.0"}
    with pytest.raises(InvalidInput, match="expected a corpus, got none"):
        mq.open([])


def test_the_command_line_takes_a_list(command: Any, released: Path, own: Path, tmp_path: Path) -> None:
    both = f"{released},{own}"
    query = "select corpus, count(*) from trials group by 1 order by 1"
    done = command("metaquery", "sql", both, query, "--format", "csv")
    assert done.stdout.splitlines()[1:] == ["own,31", "released,66"]
    assert command("metaquery", "info", both).stdout.count("hash  ") == 2
    assert command("metaquery", "verify", both).stdout.endswith("sound\n")
    broken = Path(shutil.copytree(own, tmp_path / "broken"))
    (broken / "trials.parquet").write_bytes(b"")
    found = command("metaquery", "verify", f"{released},{broken}")
    assert found.returncode == 1
    assert f"{broken}: trials.parquet" in found.stdout
    assert_one_line_error(command("metaquery", "info", f"{released},{released}"), "give each once")


def test_evaluate_over_a_union(both: mq.Corpus) -> None:
    found = mq.evaluate(both, ["random"], budget=mq.Budget(trials=3), protocol="single", seeds=1)
    assert {row["dataset"] for row in found.results.to_pylist()} == {"alpha", "beta", "gamma"}


def test_opened_with_the_bundled_corpus(own: Path) -> None:
    union = mq.open(["mini", own])
    assert dict(union.sql("select corpus, count(*) from trials group by 1").rows()) == {"mini": 108, "own": 31}
    with pytest.raises(InvalidInput, match="the search spaces do not go together"):
        _ = union.space
    assert union.benchmark("gamma").source == mq.open(own).hash
