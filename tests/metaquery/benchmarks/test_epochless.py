"""Configs without epochs: one record in the tables, the same value at every epoch, the whole cost with the first."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from factory import make_content, without_epochs

import metaquery as mq
from metaquery.benchmarks import Benchmark
from metaquery.errors import InvalidInput
from metaquery.optimizers.base import Optimizer
from metaquery.schema.checks import problems_of_tables
from metaquery.schema.predictions import checkpoint_epochs
from metaquery.schema.writer import write_corpus
from metaquery.space import Config
from metaquery.types import Budget, Charging, Observation, Status, Suggestion
from metaquery.verify import verify

WHOLE = "small.imagenet"


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return without_epochs(make_content(datasets=("alpha",), sobol=2, repeats=1), WHOLE)


@pytest.fixture(scope="module")
def corpus(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> mq.Corpus:
    made = {"name": "x", "version": "1", "builder_version": "0", "devices": [], "provenance": {}}
    return mq.open(write_corpus(tmp_path_factory.mktemp("epochless") / "x", **made, **content))


@pytest.fixture(scope="module")
def bench(corpus: mq.Corpus) -> Benchmark:
    return corpus.benchmark("alpha")


def one(bench: Benchmark, status: str) -> Config:
    assert bench.configs is not None
    whole = [config for config in bench.configs if config["backbone"] == WHOLE]
    return next(config for config in whole if bench.curve(config).status == status)


def row_of(corpus: mq.Corpus, config: Config) -> dict[str, Any]:
    query = "from trials left join curves using (trial_id) where dataset = 'alpha' and seed = 0"
    (row,) = corpus.sql(f"{query} and config_id = '{config.config_id}'").arrow().to_pylist()
    return dict(row)


def test_the_corpus_is_sound(corpus: mq.Corpus) -> None:
    assert verify(corpus.root) == []


def test_the_value_is_that_of_the_record_at_every_epoch_and_the_cost_is_all_of_it(
    corpus: mq.Corpus, bench: Benchmark
) -> None:
    config = one(bench, "completed")
    row = row_of(corpus, config)
    assert (row["epoch"], row["epochs_run"], row["epochs_planned"]) == (27, 1, 27)
    cost = row["train_seconds"] + row["eval_seconds"]
    expected = Observation(1.0 - row["val_auc"], cost, Status.COMPLETED)
    assert {bench.query(config, epoch) for epoch in range(1, 28)} == {expected}
    curve = bench.curve(config)
    assert curve.test.tolist() == [1.0 - row["test_auc"]] * 27
    assert curve.seconds.tolist() == [cost] + [0.0] * 26


def test_the_precomputed_answers_are_those_of_the_curve(bench: Benchmark) -> None:
    assert bench.configs is not None
    for config in bench.configs:
        for epoch in (1, 2, 9, 27):
            assert repr(bench.query(config, epoch)) == repr(Benchmark._query(bench, config, epoch))


class Thrice(Optimizer):
    """Asks one config to be trained to epoch 3, then 9, then 27."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._asks = [(config, epoch) for epoch in (3, 9, 27)]

    def _ask(self, token: int) -> tuple[Config, int] | None:
        return self._asks.pop(0) if self._asks else None

    def _tell(self, suggestion: Suggestion, observation: Observation, loss: float) -> None:
        pass


@pytest.mark.parametrize(("charging", "charged"), [("resume", [1, 0, 0]), ("restart", [1, 1, 1])])
def test_a_study_pays_once_or_each_time(bench: Benchmark, charging: Charging, charged: list[int]) -> None:
    config = one(bench, "completed")
    cost = bench.query(config, 1).cost_seconds
    steps = mq.run(Thrice(config), bench, Budget(trials=3), charging=charging).steps
    assert [step.cost_seconds for step in steps] == [cost * share for share in charged]
    assert [step.value for step in steps] == [bench.query(config, 27).value] * 3


def test_one_that_failed_costs_what_it_spent(corpus: mq.Corpus, content: dict[str, Any], tmp_path: Path) -> None:
    tables = dict(content["tables"])
    config = one(corpus.benchmark("alpha"), "completed")
    row = row_of(corpus, config)
    change = {"status": "failed", "error": "ValueError: one class", "epochs_run": 0}
    trials = [t | change if t["trial_id"] == row["trial_id"] else t for t in tables["trials"].to_pylist()]
    tables["trials"] = pa.Table.from_pylist(trials, schema=tables["trials"].schema)
    kept = [trial_id != row["trial_id"] for trial_id in tables["curves"]["trial_id"].to_pylist()]
    tables["curves"] = tables["curves"].filter(kept)
    predictions = [p for p in content["predictions"] if p.trial_id != row["trial_id"]]
    made = {"name": "x", "version": "1", "builder_version": "0", "devices": [], "provenance": {}}
    root = write_corpus(tmp_path / "x", **made, **{**content, "tables": tables, "predictions": predictions})
    for epoch in (1, 27):
        observed = mq.open(root).benchmark("alpha").query(config, epoch)
        assert math.isnan(observed.value)
        assert (observed.cost_seconds, observed.status) == (row["total_seconds"], Status.FAILED)


def test_predictions_are_at_the_record(corpus: mq.Corpus, bench: Benchmark) -> None:
    trial_id = row_of(corpus, one(bench, "completed"))["trial_id"]
    first, *others = (corpus.predictions(trial_id, epoch=epoch)[1].tolist() for epoch in (27, "best", "last"))
    assert others == [first, first]
    with pytest.raises(InvalidInput, match=r"at epoch 3 are not stored: expected one of 27, 'best' \(27\)"):
        corpus.predictions(trial_id, epoch=3)


def test_checkpoints_of_a_record() -> None:
    assert checkpoint_epochs([0.5], [27]) == {27: 27, "best": 27, "last": 27}
    assert checkpoint_epochs([None], [5]) == {"best": 5, "last": 5}


Edit = Callable[[dict[str, Any]], dict[str, Any]]

BROKEN: list[tuple[str, Edit, str]] = [
    ("curves", lambda row: {"epoch": 26}, "curves: the record is not at epochs_planned in trial"),
    ("trials", lambda row: {"status": "early_stopped"}, "trials: no epochs, but epochs_run is not 1 if completed"),
    ("backbones", lambda row: {"parameters": 5}, "backbones: parameters must be null for the family radiomics and"),
]


@pytest.mark.parametrize(("table", "edit", "message"), BROKEN, ids=[message for _, _, message in BROKEN])
def test_what_breaks_the_rule_is_found(content: dict[str, Any], table: str, edit: Edit, message: str) -> None:
    rows = content["tables"][table].to_pylist()
    whole = {r["config_id"] for r in content["tables"]["configs"].to_pylist() if r["backbone"] == WHOLE}
    trials = {r["trial_id"] for r in content["tables"]["trials"].to_pylist() if r["config_id"] in whole}
    of_whole = [row for row in rows if row.get("backbone") == WHOLE or row.get("trial_id") in trials]
    concerned = next(row for row in of_whole if row.get("status", "completed") == "completed")
    concerned |= edit(concerned)
    changed = pa.Table.from_pylist(rows, schema=content["tables"][table].schema)
    found = problems_of_tables({**content["tables"], table: changed}, content["space"], 27)
    assert len(found) == 1
    assert found[0].startswith(message)


def test_only_they_may_lack_a_learning_rate_or_a_size(content: dict[str, Any]) -> None:
    tables = content["tables"]
    curves = tables["curves"].to_pylist()
    row = next(row for row in curves if row["epoch"] == 1)
    row["learning_rate"] = None
    backbones = tables["backbones"].to_pylist()
    network = next(row for row in backbones if row["backbone"] != WHOLE)
    network["flops"] = None
    changed = {
        "curves": pa.Table.from_pylist(curves, schema=tables["curves"].schema),
        "backbones": pa.Table.from_pylist(backbones, schema=tables["backbones"].schema),
    }
    assert problems_of_tables({**tables, **changed}, content["space"], 27) == [
        f"curves: learning_rate is null, though the backbone has epochs, in trial {row['trial_id']}",
        f"backbones: flops must be null for the family radiomics and for no other, see {network['backbone']}",
    ]
