"""The tabular benchmark: exact answers from the table, and nothing beside it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factory import BACKBONES, make_content, make_corpus

import metaquery as mq
from metaquery.benchmarks import Benchmark, benchmark_kinds, make_benchmark
from metaquery.benchmarks.tabular import TabularBenchmark
from metaquery.errors import InvalidConfig, InvalidInput, UnknownName
from metaquery.metrics import METRICS
from metaquery.schema.writer import write_corpus
from metaquery.space import Config
from metaquery.types import STATUSES, Observation, Status


@pytest.fixture
def bench(corpus: mq.Corpus) -> Benchmark:
    return corpus.benchmark("alpha")


def ended(corpus: mq.Corpus, status: str) -> tuple[Config, dict[str, Any]]:
    """The config and row of the only trial of alpha, fold 0, seed 0, that ended so."""
    row = (
        corpus.sql(
            f"""from trials join configs using (config_id)
            where dataset = 'alpha' and fold = 0 and seed = 0 and status = '{status}'"""
        )
        .arrow()
        .to_pylist()[0]
    )
    names = corpus.space.by_name
    return corpus.space.config({n: row[n] for n in names if row[n] is not None}), row


def test_shape_and_stamp(corpus: mq.Corpus, bench: Benchmark) -> None:
    assert isinstance(bench, TabularBenchmark)
    assert bench.space["backbone"].choices == BACKBONES[2]
    assert bench.configs == tuple(bench.space.grid())
    assert len(bench.configs) == 27
    assert bench.task.candidates == bench.configs
    assert bench.stamp == {
        "kind": "tabular",
        "dataset": "alpha",
        "metric": "auc",
        "fold": 0,
        "seed": 0,
        "epochs": 27,
        "source": corpus.hash,
    }


@pytest.mark.parametrize("metric", sorted(METRICS))
@pytest.mark.parametrize("fold", [0, 1])
def test_every_value_is_that_of_sql(corpus: mq.Corpus, metric: str, fold: int) -> None:
    bench = corpus.benchmark("beta", metric=metric, fold=fold)
    assert bench.configs is not None
    rows = corpus.sql(
        f"""select config_id, list(val_{metric} order by epoch), list(test_{metric} order by epoch),
                   list(train_seconds::double + eval_seconds::double order by epoch)
            from curves join trials using (trial_id) join configs using (config_id)
            where dataset = 'beta' and fold = {fold} and seed = 0 and design = 'grid' group by 1"""
    ).rows()
    expected = {config_id: values for config_id, *values in rows}
    assert set(expected) == {config.config_id for config in bench.configs}
    for config in bench.configs:
        val, test, seconds = expected[config.config_id]
        curve = bench.curve(config)
        assert [bench.metric.from_loss(v) for v in curve.value] == pytest.approx(val, abs=1e-12)
        assert [bench.metric.from_loss(v) for v in curve.test] == pytest.approx(test, abs=1e-12)
        assert curve.seconds.tolist() == seconds


def test_query_is_the_plain_path(corpus: mq.Corpus) -> None:
    """The precomputed answers against those of the base class, bit by bit."""
    for dataset in corpus.datasets:
        bench = corpus.benchmark(dataset)
        assert bench.configs is not None
        for config in bench.configs:
            for epoch in range(1, 28):
                fast, plain = bench.query(config, epoch), Benchmark._query(bench, config, epoch)
                assert repr(fast) == repr(plain)  # equal, NaN included


def test_batches_are_single_queries(corpus: mq.Corpus) -> None:
    for dataset in corpus.datasets:
        bench = corpus.benchmark(dataset)
        assert bench.configs is not None
        rows, epochs = (part.ravel() for part in np.indices((len(bench.configs), 27)))
        epochs = epochs + 1
        configs = [bench.configs[row] for row in rows]
        expected = [bench.query(config, epoch) for config, epoch in zip(configs, epochs, strict=True)]
        by_rows, by_configs = bench.query_batch(rows, epochs), bench.query_batch(configs, epochs.tolist())
        plain = Benchmark._query_batch(bench, configs, epochs)
        for found in (by_rows, by_configs, plain):
            together = zip(found.value.tolist(), found.cost_seconds.tolist(), found.status, strict=True)
            assert repr([Observation(v, c, STATUSES[s]) for v, c, s in together]) == repr(expected)
        for config, epoch, observation in zip(configs, epochs, expected, strict=True):
            outcome = bench.evaluate(config, int(epoch))
            assert repr(outcome) == repr(bench.evaluate(dict(config), epoch))  # the long way
            assert repr(outcome) == repr(Benchmark._evaluate(bench, config, epoch))
            assert repr(outcome.observation) == repr(observation)


@pytest.mark.parametrize(
    ("rows", "epochs", "message"),
    [
        (np.array([0, 27]), [1, 1], "positions of configs must be from 0 to 26, got 0 to 27"),
        (np.array([-1]), [1], "positions of configs must be from 0 to 26, got -1 to -1"),
        (np.array([0.0]), [1], "positions of configs must be integers, got an array of float64"),
        (np.array([0]), [28], "epochs must be from 1 to 27, got 28 to 28"),
        (np.array([0]), [0], "epochs must be from 1 to 27, got 0 to 0"),
        (np.array([0]), [1.5], "epochs must be 1 integers, one for each config, got float64"),
        (np.array([0, 1]), [1], "epochs must be 2 integers, one for each config"),
    ],
)
def test_bad_batches(bench: Benchmark, rows: Any, epochs: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        bench.query_batch(rows, epochs)


def test_an_empty_batch(bench: Benchmark) -> None:
    assert len(bench.query_batch([], []).value) == 0


@pytest.mark.parametrize(
    ("status", "ran"), [("diverged", 5), ("out_of_memory", 0), ("timed_out", 12), ("failed", 2), ("early_stopped", 9)]
)
def test_trials_that_ended_early(corpus: mq.Corpus, bench: Benchmark, status: str, ran: int) -> None:
    config, row = ended(corpus, status)
    curve = bench.curve(config)
    assert (curve.epochs_run, curve.epochs_planned, curve.status) == (ran, 27, status)
    for epoch in range(1, ran + 1):
        assert bench.query(config, epoch) == Observation(
            curve.value[epoch - 1], pytest.approx(curve.seconds[:epoch].sum()), Status.COMPLETED
        )
    beyond = bench.query(config, ran + 1)
    if status == "early_stopped":  # by its own rule: its last value is what training to the end gives
        assert beyond.value == curve.value[-1]
    else:
        assert math.isnan(beyond.value)
        assert not beyond.ok
    assert beyond.status == status
    lost = 0.0 if status == "early_stopped" else row["total_seconds"] - curve.seconds.sum()
    assert curve.failure_seconds == pytest.approx(lost)
    assert beyond.cost_seconds == pytest.approx(curve.seconds.sum() + lost)
    assert repr(bench.query(config, 27)) == repr(beyond)


def test_cost_grows_with_epochs(bench: Benchmark) -> None:
    assert bench.configs is not None
    for config in bench.configs:
        costs = [bench.query(config, epoch).cost_seconds for epoch in range(1, 28)]
        assert np.all(np.diff(costs) >= 0)


def test_a_plain_mapping_is_as_good(bench: Benchmark) -> None:
    assert bench.configs is not None
    config = bench.configs[4]
    assert bench.query(dict(config), 9) == bench.query(config, 9)
    assert bench.query({**config, "batch_size": 32.0}, 9) == bench.query(config, 9)


def test_config_outside_the_table_names_the_nearest(bench: Benchmark) -> None:
    values = {"backbone": "tiny.scratch", "learning_rate": 2e-3, "optimizer": "sgd", "momentum": 0.8, "batch_size": 32}
    with pytest.raises(InvalidConfig) as caught:
        bench.query(values, 9)
    message = str(caught.value)
    assert "is not in the table of alpha, fold 0, seed 0: expected one of its 27 configs" in message
    nearest = message.split("the nearest are ")[1].split("; ")
    assert nearest == [
        repr(bench.space.config({**values, "learning_rate": rate, "momentum": momentum}))
        for rate, momentum in ((1e-3, 0.9), (1e-2, 0.9), (1e-3, 0.5))
    ]
    assert "\n" not in message


def test_backbone_of_other_dimensions_is_outside_the_table(bench: Benchmark) -> None:
    assert bench.configs is not None
    with pytest.raises(InvalidConfig, match="is not in the table of alpha"):
        bench.query({**bench.configs[0], "backbone": "tiny3d.scratch"}, 1)


def test_illegal_configs_get_the_error_of_the_space(bench: Benchmark) -> None:
    assert bench.configs is not None
    good = dict(next(config for config in bench.configs if config["optimizer"] == "adamw"))
    for changes, message in (
        ({"learning_rate": 1.0}, r"learning_rate must be a number in \[1e-05, 0.1\], got 1.0"),
        ({"optimizer": "lion"}, "optimizer must be one of sgd, adamw, got 'lion'"),
        ({"momentum": 0.9}, "momentum is only active where optimizer is sgd"),
    ):
        with pytest.raises(InvalidConfig, match=message):
            bench.query({**good, **changes}, 1)
    with pytest.raises(UnknownName, match="unknown hyperparameter 'learning_rat': did you mean learning_rate"):
        bench.query({**good, "learning_rat": 1e-3}, 1)
    with pytest.raises(InvalidConfig, match="the config lacks batch_size"):
        bench.query({name: value for name, value in good.items() if name != "batch_size"}, 1)


@pytest.mark.parametrize("epoch", [0, 28, -1, 1.0, "9", None, True])
def test_illegal_epochs(bench: Benchmark, epoch: Any) -> None:
    assert bench.configs is not None
    with pytest.raises(InvalidInput, match="epoch must be an integer from 1 to 27"):
        bench.query(bench.configs[0], epoch)


def test_what_does_not_exist(corpus: mq.Corpus) -> None:
    for arguments, message in (
        ({"dataset": "alpah"}, "unknown dataset 'alpah': did you mean alpha"),
        ({"fold": 5}, "unknown fold of alpha '5': expected one of: 0, 1"),
        ({"seed": 9}, "unknown seed of alpha fold 0 '9': expected one of: 0, 1"),
        ({"metric": "acc"}, "unknown metric 'acc'"),
        ({"kind": "tabulr"}, "unknown benchmark kind 'tabulr': did you mean tabular"),
    ):
        with pytest.raises(UnknownName, match=message):
            corpus.benchmark(**{"dataset": "alpha", **arguments})


def test_repeated_seed_is_a_small_table(corpus: mq.Corpus, bench: Benchmark) -> None:
    repeat = corpus.benchmark("alpha", seed=1)
    assert bench.configs is not None
    assert repeat.configs == bench.configs[:2]
    assert repeat.space["backbone"].choices == ("tiny.scratch",)
    assert repeat.query(repeat.configs[0], 27) != bench.query(repeat.configs[0], 27)


def test_off_grid_trials_are_not_in_the_table(corpus: mq.Corpus, bench: Benchmark) -> None:
    assert bench.configs is not None
    known = {config.config_id for config in bench.configs}
    sobol = corpus.sql("select config_id from configs where design = 'sobol'").rows()
    assert sobol
    assert not known & {config_id for (config_id,) in sobol}


def test_dataset_without_grid_trials(tmp_path: Path) -> None:
    content = make_content(datasets=("alpha",), sobol=3, repeats=0, epochs=3, failures=False)
    tables = content["tables"]
    kept = tables["trials"].join(tables["configs"], "config_id").to_pylist()
    sobol = {row["trial_id"] for row in kept if row["design"] == "sobol"}
    for name in ("trials", "curves"):
        mask = [trial_id in sobol for trial_id in tables[name]["trial_id"].to_pylist()]
        tables[name] = tables[name].filter(mask)
    content["predictions"] = [p for p in content["predictions"] if p.trial_id in sobol]
    made = {"name": "x", "version": "1", "builder_version": "0", "devices": [], "provenance": {}}
    root = write_corpus(tmp_path / "x", **made, **content)
    with pytest.raises(InvalidInput, match="alpha fold 0 has no grid trials in corpus x"):
        mq.open(root).benchmark("alpha")


def test_a_dataset_in_which_nothing_ran(tmp_path: Path) -> None:
    """All trials out of memory: a table without a single epoch, but with costs."""
    content = make_content(datasets=("alpha",), sobol=0, repeats=0, epochs=3, failures=False)
    rows = content["tables"]["trials"].to_pylist()
    for row in rows:
        row.update(status="out_of_memory", error="out of memory", epochs_run=0)
    tables = content["tables"]
    content["tables"] = {
        **tables,
        "trials": type(tables["trials"]).from_pylist(rows, schema=tables["trials"].schema),
        "curves": tables["curves"].slice(0, 0),
    }
    content["predictions"] = []
    made = {"name": "x", "version": "1", "builder_version": "0", "devices": [], "provenance": {}}
    bench = mq.open(write_corpus(tmp_path / "x", **made, **content)).benchmark("alpha")
    assert bench.configs is not None
    observed = bench.query(bench.configs[0], 1)
    assert (observed.ok, observed.status) == (False, Status.OUT_OF_MEMORY)
    assert observed.cost_seconds > 1.0


def test_row_groups_of_other_folds_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from metaquery.schema import parquet

    monkeypatch.setattr(parquet, "_ROW_GROUP", 50)
    root = make_corpus(tmp_path / "groups", sobol=1, repeats=1, epochs=9)
    monkeypatch.undo()
    plain = make_corpus(tmp_path / "plain", sobol=1, repeats=1, epochs=9)
    for dataset in ("alpha", "beta"):
        one, other = (mq.open(path).benchmark(dataset) for path in (root, plain))
        assert one.configs == other.configs
        assert one.configs is not None
        for config in one.configs:
            assert repr(one.curve(config)) == repr(other.curve(config))


# Kinds ---------------------------------------------------------------------------------------------------------------


class _Entry:
    name = "mirror"

    def load(self) -> Any:
        return lambda corpus, **what: (corpus, what)


class _Entries(list[_Entry]):
    names = frozenset({"mirror"})


def test_kinds_come_from_entry_points(corpus: mq.Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    from metaquery import benchmarks

    def entry_points(group: str, name: str | None = None) -> _Entries:
        assert group == "metaquery.benchmarks"
        return _Entries([_Entry()] if name in (None, "mirror") else [])

    monkeypatch.setattr(benchmarks, "entry_points", entry_points)
    assert benchmark_kinds() == ("mirror", "surrogate", "tabular")
    what = {"dataset": "alpha", "metric": "auc", "fold": 0, "seed": 0}
    assert make_benchmark("mirror", corpus, **what) == (corpus, what)  # type: ignore[comparison-overlap]
    with pytest.raises(UnknownName, match="expected one of: mirror, surrogate, tabular"):
        make_benchmark("x", corpus, **what)
