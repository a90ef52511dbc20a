"""The real trainer as a benchmark: the table's values, only new epochs trained, failures that show, both clocks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import assert_one_line_error

import corpus_builder.train.trial as trial_module
import metaquery as mq
from corpus_builder.live import LiveBenchmark
from metaquery.benchmarks.base import Benchmark
from metaquery.benchmarks.tabular import TabularBenchmark
from metaquery.errors import InvalidInput, UnknownName
from metaquery.schema.rounding import rounded_curves
from metaquery.types import Status

DATASET = "phantom_nodules3d"


@pytest.fixture
def corpus(sealed) -> mq.Corpus:
    return mq.open(sealed)


def live(corpus, metric="auc", fold=0, seed=0, **options) -> LiveBenchmark:
    return LiveBenchmark.from_corpus(corpus, dataset=DATASET, metric=metric, fold=fold, seed=seed, **options)


def count_epochs(monkeypatch) -> list[int]:
    """The number of epochs that every call of the trainer really trained."""
    trained: list[int] = []
    advance = trial_module.advance_trial

    def counting(spec, data, device, weights_root, until, start=None, **options):
        found = advance(spec, data, device, weights_root, until, start, **options)
        trained.append(len(found.result.epochs) - (0 if start is None else len(start.result.epochs)))
        return found

    monkeypatch.setattr(trial_module, "advance_trial", counting)
    return trained


def test_the_kind_is_found_through_its_entry_point(corpus):
    assert isinstance(corpus.benchmark(DATASET, kind="live"), LiveBenchmark)


def test_it_gives_the_values_of_the_table_whatever_the_order_of_the_epochs(corpus):
    """To the last digit that a table stores."""
    table = corpus.benchmark(DATASET, metric="loss")
    bench = live(corpus, "loss")
    for config in table.configs:
        for epoch in (2, 1, 3):
            asked, known = bench.evaluate(config, epoch), table.evaluate(config, epoch)
            value, test = stored(corpus, [asked.observation.value], [asked.test])
            assert (value, asked.observation.status) == ([known.observation.value], Status.COMPLETED)
            assert (test, asked.epochs_run) == ([known.test], epoch)
        curve = bench.curve(config)
        assert stored(corpus, curve.value, curve.test)[0] == table.curve(config).value.tolist()


def stored(corpus, val_loss, test_loss):
    """Losses as a corpus stores them."""
    schema = corpus.table("curves").schema
    rows = [dict.fromkeys(schema.names, 0) | {"trial_id": "one", "epoch": n + 1} for n in range(len(val_loss))]
    for row, val, test in zip(rows, val_loss, test_loss, strict=True):
        row |= {"val_loss": val, "test_loss": test}
    rounded = rounded_curves(pa.Table.from_pylist(rows, schema))
    return rounded["val_loss"].to_pylist(), rounded["test_loss"].to_pylist()


def test_only_new_epochs_are_trained_and_costs_add_up(corpus, monkeypatch):
    trained = count_epochs(monkeypatch)
    bench = live(corpus)
    config = bench.space.default()
    first = bench.query(config, 1)
    assert bench.query(config, 1) == first
    third = bench.query(config, 3)
    assert bench.query(config, 2).cost_seconds < third.cost_seconds
    assert first.cost_seconds > 0
    assert trained == [1, 2]


def test_checkpoints_outlast_the_benchmark_where_they_have_a_directory(corpus, monkeypatch, tmp_path):
    trained = count_epochs(monkeypatch)
    config = live(corpus).space.default()
    one = live(corpus, checkpoints=tmp_path).query(config, 2)
    again = live(corpus, checkpoints=tmp_path)
    assert again.query(config, 2) == one
    again.query(config, 3)
    assert trained == [2, 1]
    (saved,) = tmp_path.iterdir()
    saved.write_bytes(b"torn")
    with pytest.raises(InvalidInput, match="remove it"):
        live(corpus, checkpoints=tmp_path).query(config, 3)


def test_a_directory_that_was_not_asked_for_goes_with_the_benchmark(corpus):
    bench = live(corpus)
    bench.query(bench.space.default(), 1)
    directory = bench._checkpoints
    assert any(directory.iterdir())
    del bench
    assert not directory.exists()


def test_failures_come_through(corpus, monkeypatch):
    trained = count_epochs(monkeypatch)

    def full(*_args):
        raise MemoryError("no memory")

    bench = live(corpus)
    config = bench.space.default()
    bench.query(config, 1)
    monkeypatch.setattr(trial_module, "build_optimizer", full)
    failed = bench.query(config, 3)
    assert (math.isnan(failed.value), failed.status) == (True, Status.OUT_OF_MEMORY)
    assert failed.cost_seconds >= bench.query(config, 1).cost_seconds
    assert bench.query(config, 1).ok
    assert bench.evaluate(config, 2).epochs_run == 1
    assert len(trained) == 2, "what has failed is not tried again"


def test_what_cannot_be_trained_is_refused(corpus, corpus_path_of_tables):
    with pytest.raises(UnknownName, match="dataset"):
        LiveBenchmark.from_corpus(corpus, dataset="nodules", metric="auc", fold=0, seed=0)
    with pytest.raises(UnknownName, match="fold"):
        live(corpus, fold=99)
    with pytest.raises(UnknownName, match="metric"):
        live(corpus, metric="auk")
    with pytest.raises(InvalidInput, match="seed"):
        live(corpus, seed=-1)
    with pytest.raises(UnknownName, match="option"):
        corpus.benchmark(DATASET, kind="live", gpu=True)
    with pytest.raises(mq.MedCurvesError, match="names no study"):
        live(mq.open(corpus_path_of_tables))


@pytest.fixture(scope="module")
def corpus_path_of_tables(tmp_path_factory) -> Path:
    from factory import make_corpus

    return make_corpus(tmp_path_factory.mktemp("tables") / "corpus", datasets=("alpha",))


def test_a_live_study_and_its_costs_replayed_on_the_simulated_clock_are_the_same_study(corpus):
    budget = mq.Budget(epochs=12)

    def study(bench, **clock):
        return mq.run(mq.optimizer("successive_halving", seed=1), bench, budget, **clock)

    bench = live(corpus)
    table = corpus.benchmark(DATASET)
    candidates = table.configs
    measured = study(_Of(bench, candidates))
    replayed = study(_as_table(table, bench, candidates))
    assert measured.steps == replayed.steps
    assert measured.incumbents == replayed.incumbents
    assert measured.clock_seconds == replayed.clock_seconds > 0
    in_real_time = study(_Of(bench, candidates), real_time=True)  # all is trained: what is asked is what differs
    assert [(s.config, s.epoch, s.value) for s in in_real_time.steps] == [
        (s.config, s.epoch, s.value) for s in measured.steps
    ]


class _Of(Benchmark):
    """`bench` for a few configs alone."""

    kind = "live"

    def __init__(self, bench, candidates):
        self.__dict__.update(bench.__dict__)
        self._bench, self._candidates = bench, tuple(candidates)

    @property
    def configs(self):
        return self._candidates

    def _curve(self, config):
        return self._bench._curve(config)

    def _curve_until(self, config, epoch):
        return self._bench._curve_until(config, epoch)


def _as_table(table, bench, candidates):
    """A table of what `bench` has measured."""
    return TabularBenchmark(
        {config: bench.curve(config) for config in candidates},
        dataset=table.dataset,
        space=table.space,
        full_space=table.open_space,
        metric=table.metric,
        epochs=table.epochs,
        fold=0,
        seed=0,
        source="recorded",
    )


def test_the_command_runs_it(sealed, command, tmp_path):
    line = ("run", sealed, "--optimizer", "random", "--dataset", DATASET, "--kind", "live", "--epochs", 3)
    roots = ("--data-root", tmp_path, "--weights-root", tmp_path, "--device", "cpu")
    kept = tmp_path / "checkpoints"
    kept.mkdir()
    done = command("metaquery", *line, *roots, "--checkpoints", kept, "--trial-seed", 3, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "trajectory.json").read_text())["benchmark"]["seed"] == 3
    assert list(kept.glob("*.pt"))
    assert_one_line_error(command("metaquery", *line, "--device", "abacus"), "abacus")


@pytest.mark.slow
def test_a_trial_of_mini_trained_live_has_the_table_s_first_epoch(data_root, weights_root):
    corpus = mq.open("mini")
    table = corpus.benchmark("pneumoniamnist")
    config = next(c for c in table.configs if c["backbone"] == "resnet20.cifar10")
    bench = LiveBenchmark.from_corpus(corpus, dataset="pneumoniamnist", metric="auc", fold=0, seed=0)
    assert bench.query(config, 1).value == pytest.approx(table.query(config, 1).value, abs=0.01)
