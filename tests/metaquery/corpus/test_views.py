"""Ready views and named queries: what a plain loop over the tables gives, over one corpus and over several."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import assert_one_line_error
from factory import make_content, make_corpus

import metaquery as mq
from metaquery.cli import cli
from metaquery.errors import CorpusError, InvalidInput, UnknownName
from metaquery.metrics import METRICS
from metaquery.queries import named_queries
from metaquery.schema.writer import write_corpus
from metaquery.sql import SqlSession
from metaquery.views import NEEDS

Row = dict[str, Any]


@pytest.fixture(scope="module")
def union(corpus_path: Path, tmp_path_factory: pytest.TempPathFactory) -> mq.Corpus:
    """The shared corpus and another with other trials of a dataset that both have."""
    other = make_corpus(
        tmp_path_factory.mktemp("union") / "other", datasets=("delta",), seed=1, name="other", failures=True
    )
    return mq.open([corpus_path, other])


@pytest.fixture(params=["one", "several"])
def any_corpus(request: pytest.FixtureRequest, corpus_path: Path) -> mq.Corpus:
    return mq.open(corpus_path) if request.param == "one" else request.getfixturevalue("union")


def curves_of(corpus: mq.Corpus) -> Iterator[tuple[Row, list[Row]]]:
    """Every trial that has epochs, with its records in order."""
    curves: dict[str, list[Row]] = {}
    for row in corpus.table("curves").to_pylist():
        curves.setdefault(row["trial_id"], []).append(row)
    for trial in corpus.table("trials").to_pylist():
        if trial["trial_id"] in curves:
            yield trial, curves[trial["trial_id"]]


def by_trial(corpus: mq.Corpus, view: str) -> dict[str, Row]:
    rows = corpus.sql(f"from {view}").arrow().to_pylist()
    found = {row["trial_id"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def test_best_epoch_and_final(any_corpus: mq.Corpus) -> None:
    best, final = by_trial(any_corpus, "best_epoch"), by_trial(any_corpus, "final")
    trials = list(curves_of(any_corpus))
    assert best.keys() == final.keys() == {trial["trial_id"] for trial, _ in trials}
    values: dict[tuple[str, int], list[float]] = {}
    for trial, curve in trials:
        row, last = best[trial["trial_id"]], final[trial["trial_id"]]
        top = max(curve, key=lambda record: (record["val_auc"], -record["epoch"]))
        assert (row["metric"], row["val"], row["test"]) == ("auc", top["val_auc"], top["test_auc"])
        assert {name: row[name] for name in top} == top
        assert {name: last[name] for name in top} == curve[-1]
        for name in ("dataset", "fold", "config_id", "seed", "status"):
            assert row[name] == last[name] == trial[name]
        values.setdefault((trial["dataset"], trial["fold"]), []).append(top["val_auc"])
    for row in best.values():
        assert row["rank"] == 1 + sum(other > row["val"] for other in values[row["dataset"], row["fold"]])


def test_best_epoch_of_a_loss_with_ties_and_undefined_values(tmp_path: Path) -> None:
    content = make_content(datasets=("alpha",), sobol=0, repeats=0, epochs=3, failures=False)
    rows = content["tables"]["curves"].to_pylist()
    ids = list(dict.fromkeys(row["trial_id"] for row in rows))
    wanted = {ids[0]: [0.5, 0.25, 0.25], ids[1]: [None, 0.75, None], ids[2]: [None, None, None]}
    for row in rows:
        if row["trial_id"] in wanted:
            row["val_loss"] = wanted[row["trial_id"]][row["epoch"] - 1]
    content["tables"]["curves"] = type(content["tables"]["curves"]).from_pylist(
        rows, schema=content["tables"]["curves"].schema
    )
    stated = {"name": "x", "version": "1", "builder_version": "0", "devices": ["cpu"], "provenance": {}}
    corpus = mq.Corpus(write_corpus(tmp_path / "x", **stated, **{**content, "predictions": None}))
    tables = {name: corpus.path(f"{name}.parquet") for name in ("trials", "curves", "configs")}
    session = SqlSession(tables, METRICS["loss"])
    found = {row["trial_id"]: row for row in session.run("from best_epoch").arrow().to_pylist()}
    assert [found[trial_id]["epoch"] for trial_id in ids[:3]] == [2, 2, 1]
    assert [found[trial_id]["val"] for trial_id in ids[:3]] == [0.25, 0.75, None]
    assert found[ids[2]]["rank"] == len(ids)  # the undefined one, behind all others
    with pytest.raises(InvalidInput, match="learning_curves"):
        session.run("from learning_curves")


def test_no_trial_has_other_seconds_below_zero(tmp_path: Path) -> None:
    """The total is exact and the seconds of epochs are rounded, so that their sum may be above it."""
    content = make_content(datasets=("alpha",), sobol=0, repeats=0, epochs=3, failures=False)
    tables = content["tables"]
    spent: dict[str, float] = {}
    for row in tables["curves"].to_pylist():
        spent[row["trial_id"]] = spent.get(row["trial_id"], 0.0) + row["train_seconds"] + row["eval_seconds"]
    rows = [{**row, "total_seconds": spent[row["trial_id"]]} for row in tables["trials"].to_pylist()]
    tables["trials"] = type(tables["trials"]).from_pylist(rows, schema=tables["trials"].schema)
    stated = {"name": "x", "version": "1", "builder_version": "0", "devices": ["cpu"], "provenance": {}}
    corpus = mq.Corpus(write_corpus(tmp_path / "x", **stated, **{**content, "predictions": None}))
    costs = corpus.sql("from cost_per_trial").arrow().to_pylist()
    assert any(row["total_seconds"] < row["train_seconds"] + row["eval_seconds"] for row in costs)
    assert all(0.0 <= row["other_seconds"] < 2**-8 * row["total_seconds"] for row in costs)


def test_learning_curves_join_everything(any_corpus: mq.Corpus) -> None:
    rows = any_corpus.sql("from learning_curves").arrow().to_pylist()
    curves = {(row["trial_id"], row["epoch"]): row for row in any_corpus.table("curves").to_pylist()}
    tables = {
        key: {row[key]: row for row in any_corpus.table(name).to_pylist()}
        for name, key in (("trials", "trial_id"), ("configs", "config_id"), ("datasets", "dataset"))
    }
    backbones = {row["backbone"]: row for row in any_corpus.table("backbones").to_pylist()}
    assert {(row["trial_id"], row["epoch"]) for row in rows} == curves.keys()
    assert len(rows) == len(curves)
    for row in rows[::50]:
        record = curves[row["trial_id"], row["epoch"]]
        trial, dataset = tables["trial_id"][row["trial_id"]], tables["dataset"][row["dataset"]]
        config, backbone = tables["config_id"][row["config_id"]], backbones[row["backbone"]]
        expected = {
            **{name: trial[name] for name in trial if name != "trial_id"},
            **record,
            **{name: config[name] for name in ("design", "optimizer", "momentum", "batch_size")},
            "config_learning_rate": config["learning_rate"],  # curves have a column of this name
            "modality": dataset["modality"],
            "dataset_family": dataset["family"],
            "backbone_family": backbone["family"],
            "flops": backbone["flops"],
        }
        assert {name: row[name] for name in expected} == expected


def test_failures_and_costs(any_corpus: mq.Corpus) -> None:
    trials = {row["trial_id"]: row for row in any_corpus.table("trials").to_pylist()}
    failures, costs = by_trial(any_corpus, "failures"), by_trial(any_corpus, "cost_per_trial")
    assert costs.keys() == trials.keys()
    sound = ("completed", "early_stopped")
    assert failures.keys() == {trial_id for trial_id, row in trials.items() if row["status"] not in sound}
    assert {row["status"] for row in failures.values()} == {"diverged", "out_of_memory", "timed_out", "failed"}
    assert all(row["error"] and row["backbone"] for row in failures.values())
    curves = {trial["trial_id"]: curve for trial, curve in curves_of(any_corpus)}
    for trial_id, row in costs.items():
        parts = [sum(record[name] for record in curves.get(trial_id, [])) for name in ("train_seconds", "eval_seconds")]
        assert [row["train_seconds"], row["eval_seconds"]] == pytest.approx(parts)
        assert row["other_seconds"] == pytest.approx(trials[trial_id]["total_seconds"] - sum(parts), abs=1e-4)
        run = trials[trial_id]["epochs_run"]
        assert row["seconds_per_epoch"] == (pytest.approx(sum(parts) / run) if run else None)


def test_a_view_of_a_missing_table_says_which(corpus_copy: Path) -> None:
    (corpus_copy / "curves.parquet").unlink()
    corpus = mq.open(corpus_copy)
    assert len(corpus.sql("from failures")) > 0
    for query in ("from curves", "select max(val) from best_epoch", "FROM LEARNING_CURVES"):
        with pytest.raises(CorpusError, match=r"curves\.parquet is missing"):
            corpus.sql(query)
    with pytest.raises(InvalidInput, match="Table with name nothing does not exist"):
        corpus.sql("from nothing")


def test_views_are_described_where_they_are_listed() -> None:
    import metaquery.views

    for name in NEEDS:
        assert f"    {name} " in (metaquery.views.__doc__ or "")


# Named queries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", named_queries())
def test_named_queries_run(any_corpus: mq.Corpus, name: str) -> None:
    item = named_queries()[name]
    assert item.question.endswith("?")
    result = any_corpus.named_query(name)
    assert len(result) > 0
    assert len(set(result.columns)) == len(result.columns)
    again = any_corpus.sql(item.sql).rows()  # the order is a part of the answer, the last bits of a mean are not
    assert [pytest.approx(row) for row in result.rows()] == again


def test_best_backbone_is_that_of_a_loop(corpus: mq.Corpus) -> None:
    backbone = dict(corpus.sql("select config_id, backbone from configs").rows())
    best: dict[tuple[str, int, str], tuple[float, float]] = {}
    for trial, curve in curves_of(corpus):
        key = (trial["dataset"], trial["fold"], backbone[trial["config_id"]])
        best[key] = max(best.get(key, (-1.0, 0.0)), *((row["val_auc"], row["test_auc"]) for row in curve))
    found = {row[:3]: row[3] for row in corpus.named_query("best_backbone").rows()}
    assert found == {key: val for key, (val, _) in best.items()}


def test_seed_noise_by_hand(corpus: mq.Corpus) -> None:
    values: dict[tuple[Any, ...], list[float]] = {}
    for trial, curve in curves_of(corpus):
        key = (trial["dataset"], trial["fold"], trial["config_id"])
        values.setdefault(key, []).append(max(row["val_auc"] for row in curve))
    for dataset, fold, repeated, spread, _ in corpus.named_query("seed_noise").rows():
        pairs = [v for key, v in values.items() if key[:2] == (dataset, fold) and len(v) == 2]
        assert repeated == len(pairs)
        assert spread == pytest.approx(sum(abs(a - b) / math.sqrt(2) for a, b in pairs) / len(pairs))


def test_failure_rate_counts_every_trial(corpus: mq.Corpus) -> None:
    rows = corpus.named_query("failure_rate").rows()
    assert sum(row[4] for row in rows) == len(corpus.table("trials"))
    assert sum(row[3] for row in rows) == len(corpus.sql("from failures"))


def test_unknown_query(corpus: mq.Corpus) -> None:
    with pytest.raises(UnknownName, match=r"unknown query 'best_bakbone': did you mean best_backbone.*--list"):
        corpus.named_query("best_bakbone")


def test_the_command(corpus_path: Path) -> None:
    from click.testing import CliRunner

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, ["sql", str(corpus_path), *arguments], catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    listed = run("--list").splitlines()
    assert listed == [f"{item.name}: {item.question}" for item in named_queries().values()]
    assert len(listed) >= 10
    assert named_queries()["top_trials"].sql in run("--list", "--named", "top_trials")
    answer = json.loads(run("--named", "failure_rate", "--format", "json"))
    assert [tuple(row.values()) for row in answer] == mq.open(corpus_path).named_query("failure_rate").rows()


@pytest.mark.parametrize("arguments", [[], ["select 1", "--named", "top_trials"], ["--named", "topmost"]])
def test_refused_commands(command: Any, corpus_path: Path, arguments: list[str]) -> None:
    assert_one_line_error(command("metaquery", "sql", str(corpus_path), *arguments))
