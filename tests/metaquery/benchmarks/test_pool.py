"""Tables of a pool: scattered configs of the full space, without test values, in an imported corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from factory import make_content

import metaquery as mq
from metaquery.errors import CorpusError, InvalidConfig, InvalidData, InvalidInput
from metaquery.evaluation import Evaluation
from metaquery.schema.tables import from_rows, schema_of
from metaquery.schema.writer import write_corpus
from metaquery.types import Budget, Status
from metaquery.verify import verify

ORIGIN: dict[str, Any] = {
    "name": "pool",
    "version": "1.0",
    "builder_version": "0",
    "devices": [],
    "provenance": {},
    "imported": {"format": "test", "notes": ["One note."]},
}


def pool_content(**changes: Any) -> dict[str, Any]:
    """The factory's corpus as an importer would make it: space-filling trials alone, and no test values."""
    content = make_content(datasets=("alpha", "delta"), sobol=12)
    rows = {name: table.to_pylist() for name, table in content["tables"].items()}
    rows["configs"] = [row | {"design": "pool"} for row in rows["configs"] if row["design"] == "sobol"]
    kept = {row["config_id"] for row in rows["configs"]}
    rows["trials"] = [row for row in rows["trials"] if row["config_id"] in kept]
    trials = {row["trial_id"] for row in rows["trials"]}
    rows["curves"] = [
        {key: None if key.startswith("test_") or key in ("eval_seconds", "train_loss") else v for key, v in row.items()}
        for row in rows["curves"]
        if row["trial_id"] in trials
    ]
    rows["splits"] = []
    rows["datasets"] = [row | {"n_samples": None, "sha256": None} for row in rows["datasets"]]
    space = content["space"]
    rows |= {name: change(rows[name]) for name, change in changes.items()}
    tables = {name: from_rows(schema_of(name, space, imported=True), rows[name], what=name) for name in rows}
    return {"epochs": content["epochs"], "space": space, "tables": tables, "predictions": None}


@pytest.fixture
def pool(tmp_path: Path) -> mq.Corpus:
    return mq.open(write_corpus(tmp_path / "pool", **ORIGIN, **pool_content()))


def test_the_space_is_the_full_one_and_the_configs_are_the_pool(pool: mq.Corpus) -> None:
    assert verify(pool.root) == []
    bench = pool.benchmark("alpha")
    ids = pool.sql("select config_id from trials where dataset = 'alpha' order by 1").rows()
    assert [config.config_id for config in bench.configs or ()] == [row[0] for row in ids]
    assert len(ids) == 12
    assert bench.space["learning_rate"] == pool.space["learning_rate"]
    used = {config["backbone"] for config in bench.configs or ()}
    assert bench.space["backbone"].choices == tuple(b for b in pool.space["backbone"].choices if b in used)
    assert bench.open_space == bench.space
    for config in bench.configs or ():
        curve = bench.curve(config)
        assert np.isnan(curve.test).all()
        seconds = pool.sql(
            f"""select sum(train_seconds::double) from curves join trials using (trial_id)
                where dataset = 'alpha' and config_id = '{config.config_id}'"""
        ).rows()[0][0]
        assert curve.seconds.sum() == pytest.approx(seconds)


def test_asks_beside_the_pool_name_the_nearest(pool: mq.Corpus) -> None:
    bench = pool.benchmark("alpha")
    assert bench.configs is not None
    near = {**bench.configs[3], "learning_rate": float(bench.configs[3]["learning_rate"]) * 1.0001}
    with pytest.raises(InvalidConfig) as caught:
        bench.query(near, 3)
    assert str(caught.value).split("the nearest are ")[1].startswith(repr(bench.configs[3]))


def test_full_fidelity_is_what_the_trials_were_planned_for(tmp_path: Path) -> None:
    def shorter(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            row | {"epochs_planned": 40, "status": "early_stopped"} for row in rows if row["dataset"] == "alpha"
        ] + [row for row in rows if row["dataset"] == "delta"]

    corpus = mq.open(write_corpus(tmp_path / "c", **ORIGIN, **(pool_content(trials=shorter) | {"epochs": 50})))
    alpha, delta = corpus.benchmark("alpha"), corpus.benchmark("delta")
    assert (alpha.epochs, delta.epochs) == (40, 27)
    config = (alpha.configs or ())[0]
    final = alpha.query(config, 40)
    assert (final.value, final.status) == (alpha.query(config, 27).value, Status.EARLY_STOPPED)
    random = mq.run(mq.optimizer("random"), alpha, Budget(trials=12))
    assert len(random.incumbents) > 0
    assert random.epochs == 12 * 27


def test_without_test_values_only_validation_is_reported(pool: mq.Corpus, tmp_path: Path) -> None:
    trajectory = mq.run(mq.optimizer("random"), pool.benchmark("alpha"), Budget(trials=3))
    assert "(no test value)" in trajectory.describe(pool.benchmark("alpha").metric)
    evaluation = mq.evaluate(
        pool, ["random", "dehb"], budget=Budget(epochs=100), seeds=2, snap="nearest", out=tmp_path / "e"
    )
    assert (
        evaluation.results["test"].null_count == evaluation.results["test_regret"].null_count == len(evaluation.results)
    )
    again = Evaluation.load(tmp_path / "e")
    assert again.summary().columns == evaluation.summary().columns
    assert not any("test" in column for column in evaluation.summary().columns)
    page = (tmp_path / "e" / "report" / "index.html").read_text()
    assert "The corpus has no test values, so optimizers are judged by the validation values that they saw" in page
    assert "test regret" not in page
    assert "summed over hyperparameters: random 0.00, dehb" in page
    drawn = {path.stem for path in (tmp_path / "e" / "figures").iterdir()}
    assert {"regret_validation", "rank_validation", "datasets"} < drawn
    assert not {"regret_test", "rank_test"} & drawn


def test_a_metric_without_values_is_refused_with_one_that_has_them(tmp_path: Path) -> None:
    def only_f1(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: None if k.startswith("val_") and k != "val_f1" else v for k, v in row.items()} for row in rows]

    corpus = mq.open(write_corpus(tmp_path / "c", **ORIGIN, **pool_content(curves=only_f1)))
    assert corpus.default_metric == "f1"
    assert corpus.benchmark("alpha").metric.name == "f1"
    with pytest.raises(
        InvalidInput, match="has no validation values of auc in corpus pool: use another metric, such as f1"
    ):
        corpus.benchmark("alpha", metric="auc")


def test_only_imported_corpora_may_lack_what_the_builder_has(tmp_path: Path) -> None:
    strict = {key: value for key, value in ORIGIN.items() if key != "imported"}
    with pytest.raises(InvalidData, match="datasets: column n_samples must not be null, 2 rows are"):
        write_corpus(tmp_path / "c", **strict, **pool_content())


def test_a_config_that_is_not_what_its_id_says(pool: mq.Corpus) -> None:
    import pyarrow.parquet as pq

    table = pool.table("configs")
    rates = pa.array([0.02] * len(table), pa.float64())
    changed = table.set_column(table.schema.get_field_index("learning_rate"), "learning_rate", rates)
    pq.write_table(changed, pool.root / "configs.parquet")
    with pytest.raises(CorpusError, match="is not what its id says"):
        mq.open(pool.root).benchmark("alpha")
