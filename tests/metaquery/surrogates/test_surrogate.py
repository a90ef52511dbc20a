"""A surrogate: fast and slow paths agree, costs only grow, conditions are states of their own, files are bound."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from factory import unchecked_config
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import metaquery as mq
from metaquery.benchmarks.surrogate import SurrogateBenchmark
from metaquery.errors import InvalidConfig, InvalidInput, UnknownName
from metaquery.metrics import METRICS
from metaquery.surrogates import train
from metaquery.surrogates.encoding import Encoder
from metaquery.surrogates.network import Settings
from metaquery.surrogates.store import load, places, save
from metaquery.surrogates.training import fit
from metaquery.surrogates.trials import learned, losses_of, read_trials
from metaquery.types import STATUSES, Status

QUICK = Settings(epochs=1, max_steps=300)


@pytest.fixture(scope="module")
def surrogate(corpus_path):
    """A surrogate of the shared corpus, which has failures, repeats and two folds."""
    return train(mq.open(corpus_path), "auc", QUICK)


@pytest.fixture(scope="module")
def bench(surrogate, corpus_path):
    corpus = mq.open(corpus_path)
    return make(surrogate, corpus)


def make(surrogate, corpus, dataset="alpha", **options) -> SurrogateBenchmark:
    configs = [corpus.space.default()]
    return SurrogateBenchmark(
        surrogate, dataset=dataset, fold=0, source=corpus.hash, learned=configs, **{"seed": 0, **options}
    )


def sample(bench, n, seed=0):
    rng = np.random.default_rng(seed)
    return [bench.space.sample(rng) for _ in range(n)]


def test_a_batch_is_the_single_queries_of_configs_with_and_without_epochs():
    """On the bundled corpus and its own surrogate, which knows backbones of both kinds."""
    bench = mq.open("medcurves").benchmark("bccd_blood_cells", kind="surrogate")
    whole = [name for name in bench.space["backbone"].choices if name in bench.surrogate.epochless]
    rng = np.random.default_rng(0)
    configs = sample(bench, 100)
    configs += [bench.space.complete({**bench.space.sample(rng), "backbone": name}) for name in whole for _ in range(5)]
    without = np.array([config["backbone"] in whole for config in configs])
    assert 15 <= without.sum() < 100
    answers = {}
    for epoch in (1, 2, 9, 26, 27):
        batch = answers[epoch] = bench.query_batch(configs, [epoch] * len(configs))
        ones = [bench.query(config, epoch) for config in configs]
        assert [STATUSES[status] for status in batch.status] == [one.status for one in ones]
        assert batch.value == pytest.approx([one.value for one in ones], rel=1e-5, abs=1e-6)
        assert batch.cost_seconds == pytest.approx([one.cost_seconds for one in ones], rel=2e-5)
    same = answers[1].cost_seconds == answers[27].cost_seconds
    assert np.array_equal(same, without)
    assert np.array_equal(answers[1].value[without], answers[27].value[without])


def test_a_batch_is_the_single_queries(bench):
    configs = sample(bench, 300)
    epochs = np.random.default_rng(1).integers(1, bench.epochs + 1, len(configs))
    batch = bench.query_batch(configs, epochs)
    for row, (config, epoch) in enumerate(zip(configs, epochs, strict=True)):
        one = bench.query(config, int(epoch))
        assert STATUSES[batch.status[row]] == one.status
        assert batch.value[row] == pytest.approx(one.value, rel=1e-4, abs=1e-6, nan_ok=True)
        assert batch.cost_seconds[row] == pytest.approx(one.cost_seconds, rel=1e-4)


@pytest.fixture(scope="module")
def of_loss(corpus_path):
    """A surrogate of the log loss, which is learned as a logarithm."""
    corpus = mq.open(corpus_path)
    return make(train(corpus, "loss", QUICK), corpus)


def test_a_loss_is_predicted_as_a_loss_though_its_logarithm_is_learned(of_loss, corpus):
    table = corpus.benchmark("alpha", metric="loss")
    true = [table.curve(config).value for config in table.configs]
    configs = list(table.configs)
    guess = [of_loss.curve(config).value for config in configs]
    last = [(t[-1], g[-1]) for t, g in zip(true, guess, strict=True) if len(t) == len(g) == of_loss.epochs]
    ratios = np.array([g / t for t, g in last])
    assert len(last) > 5
    assert np.median(ratios) == pytest.approx(1.0, abs=0.25)
    batch = of_loss.query_batch(configs, [2] * len(configs))
    ones = [of_loss.query(config, 2) for config in configs]
    assert batch.value == pytest.approx([one.value for one in ones], rel=1e-4, nan_ok=True)
    known = of_loss.predict(configs[0])
    relative = of_loss.surrogate.deviation([configs[0]], 0)[0, 0]  # of a logarithm
    assert known.value_std[: known.curve.epochs_run] == pytest.approx(
        relative[: known.curve.epochs_run] * known.curve.value, rel=1e-4
    )


@pytest.mark.parametrize("name", sorted(METRICS))
@given(losses=arrays(np.float64, 5, elements=st.floats(0.0, 1.0)), far=st.floats(-300.0, 300.0))
def test_losses_come_back_from_what_is_learned_and_stay_in_bounds(name, losses, far):
    measure = METRICS[name]
    losses = losses * measure.worst_loss
    assert losses_of(learned(losses, measure), measure) == pytest.approx(losses, rel=1e-12, abs=1.1e-6)
    assert 0.0 <= losses_of(np.array([far]), measure)[0] <= measure.worst_loss


def test_a_surrogate_that_learned_losses_themselves_is_refused(of_loss, tmp_path):
    save(of_loss.surrogate, tmp_path / "loss.npz")
    assert load(tmp_path / "loss.npz").metric.name == "loss"
    with np.load(tmp_path / "loss.npz") as stored:
        content = dict(stored)
    header = json.loads(str(content["header"])) | {"version": 1}
    np.savez(tmp_path / "old.npz", **{**content, "header": np.array(json.dumps(header))})
    with pytest.raises(InvalidInput, match=r"version 1, expected 2: run  metaquery surrogate train"):
        load(tmp_path / "old.npz")


def test_a_batch_refuses_what_a_single_query_refuses(bench, corpus):
    sound, epochs = sample(bench, 3), np.array([1, 1, 1, 1])
    broken = {
        "lacks momentum": {"backbone": "tiny.scratch", "learning_rate": 0.01, "optimizer": "sgd", "batch_size": 32},
        "only active where": {**bench.space.complete({"optimizer": "adamw"}), "momentum": 0.5},
        "learning_rate must be": {**bench.space.default(), "learning_rate": 7.0},
        "batch_size must be": {**bench.space.default(), "batch_size": 33},
        "backbone must be": dict(corpus.space.complete({"backbone": "tiny3d.scratch"})),  # alpha is 2-D
        "unknown": {**bench.space.default(), "colour": 1},
        "got True": {**bench.space.default(), "learning_rate": True},
        "got '0.01'": {**bench.space.default(), "learning_rate": "0.01"},
        "got nan": {**bench.space.default(), "learning_rate": math.nan},
        "got None": {**bench.space.default(), "learning_rate": None},
        r"got \['sgd'\]": {**bench.space.default(), "optimizer": ["sgd"]},
        "momentum is only active where optimizer is sgd": {
            **bench.space.complete({"optimizer": "adamw"}),
            "momentum": None,
        },
    }
    for reason, values in broken.items():
        for ask in (lambda c: bench.query(c, 1), lambda c: bench.query_batch([*sound, c], epochs)):
            with pytest.raises((InvalidConfig, UnknownName), match=reason):
                ask(unchecked_config(values))
    asked = [dict(config) for config in sound]  # made into Configs on the way
    values = [bench.query_batch(configs, epochs[:3]).value for configs in (asked, sound)]
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_the_table_of_knots_is_the_network_on_its_inputs(surrogate, corpus_path):
    trials = read_trials(mq.open(corpus_path), "auc")
    encoder = Encoder(trials.space, trials.tasks)
    rows = np.flatnonzero(trials.task == 1)
    configs = [trials.configs[row] for row in rows]
    outputs = surrogate.network(encoder.inputs(configs, trials.task[rows]).astype(np.float32)).mean(axis=0)
    assert np.allclose(surrogate.many(configs, 1).logits, outputs[:, len(surrogate.scale.basis) : -1], atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), noise=st.booleans())
def test_costs_only_grow_and_losses_stay_in_bounds(surrogate, corpus_path, seed, noise):
    bench = make(surrogate, mq.open(corpus_path), seed=seed, noise=noise)
    curve = bench.curve(sample(bench, 1, seed)[0])
    assert (curve.seconds > 0).all()
    assert ((curve.value >= 0) & (curve.value <= 1)).all()
    assert (curve.status is Status.COMPLETED) == (curve.epochs_run == bench.epochs)


def test_it_learns_what_the_curves_depend_on(corpus_path):
    corpus = mq.open(corpus_path)
    trials = read_trials(corpus, "auc")
    found = fit(trials, Settings(epochs=1, max_steps=1500, members=2))
    rows = np.flatnonzero((trials.task == 0) & np.isfinite(trials.curves[:, 0, -1]))
    predicted = found.many([trials.configs[row] for row in rows], 0).curves
    assert np.corrcoef(predicted[:, 0, -1], trials.curves[rows, 0, -1])[0, 1] > 0.8
    assert np.corrcoef(np.log(predicted[:, 2, 0]), trials.curves[rows, 2, 0])[0, 1] > 0.9


def test_noise_is_that_of_a_config_and_a_seed(surrogate, corpus):
    assert surrogate.knowledge.noise_source == "repeats"
    config = make(surrogate, corpus).space.default()
    mean, one, same, other = (
        make(surrogate, corpus, **options).curve(config).value
        for options in ({}, {"noise": True}, {"noise": True}, {"noise": True, "seed": 1})
    )
    n = min(map(len, (mean, one, other)))
    assert np.array_equal(one, same)
    assert not np.array_equal(one[:n], other[:n])
    assert not np.array_equal(one[:n], mean[:n])
    with pytest.raises(InvalidInput, match="seed"):
        make(surrogate, corpus, noise=True, seed=-1)


def test_what_is_like_nothing_it_learned_from_is_flagged(surrogate, corpus):
    bench = make(surrogate, corpus)
    bench._learned = read_trials(corpus, "auc").configs
    known = bench._learned[0]
    near = bench.predict(known)
    assert (near.distance, near.out_of_distribution) == (0.0, False)
    far = max((bench.predict(config) for config in sample(bench, 200)), key=lambda p: p.distance)
    assert far.out_of_distribution == (far.distance > surrogate.knowledge.threshold)
    assert surrogate.knowledge.threshold > 0
    assert (near.value_std > 0).all()
    assert 0.0 <= near.failure_probability <= 1.0


def test_it_is_the_same_twice_and_after_a_file(surrogate, corpus, tmp_path):
    path = tmp_path / "s.npz"
    save(surrogate, path)
    save(train(corpus, "auc", QUICK), tmp_path / "again.npz")
    configs = sample(make(surrogate, corpus), 5)
    for other in (load(path), load(tmp_path / "again.npz")):
        assert np.array_equal(other.many(configs, 0).curves, surrogate.many(configs, 0).curves)
        assert other.knowledge.threshold == surrogate.knowledge.threshold


def test_a_surrogate_is_bound_to_its_corpus_and_metric(surrogate, corpus, corpus_copy, tmp_path):
    path = tmp_path / "s.npz"
    save(surrogate, path)
    assert corpus.benchmark("alpha", kind="surrogate", file=path).query(corpus.space.default(), 3).cost_seconds > 0
    with pytest.raises(InvalidInput, match="for auc, not loss"):
        corpus.benchmark("alpha", kind="surrogate", metric="loss", file=path)
    with pytest.raises(InvalidInput, match="another corpus"):
        mq.open("mini").benchmark("iqoth_lung_ct", kind="surrogate", file=path)
    with pytest.raises(InvalidInput, match="metaquery surrogate train"):
        corpus.benchmark("alpha", kind="surrogate")
    with pytest.raises(InvalidInput, match="is not there"):
        corpus.benchmark("alpha", kind="surrogate", file=tmp_path / "none.npz")
    with pytest.raises(UnknownName, match="option"):
        corpus.benchmark("alpha", kind="surrogate", fiel=path)
    copy = mq.open(corpus_copy)
    save(surrogate, places(copy, "auc")[0])
    assert copy.benchmark("alpha", kind="surrogate").kind == "surrogate"
    assert mq.open(corpus_copy).hash == corpus.hash


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04torn", None])
def test_a_damaged_file_is_refused(surrogate, tmp_path, damage):
    path = tmp_path / "s.npz"
    save(surrogate, path)
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    with pytest.raises(InvalidInput, match="not a surrogate"):
        load(path)


def test_a_pickle_is_never_read(tmp_path):
    path = tmp_path / "s.npz"
    np.savez(path, header=np.array([{"version": 1}], dtype=object))
    with pytest.raises(InvalidInput, match="not a surrogate"):
        load(path)


def test_what_is_not_there_is_refused(surrogate, corpus, bench):
    with pytest.raises(UnknownName, match="dataset"):
        make(surrogate, corpus, dataset="alpah")
    with pytest.raises(UnknownName, match="fold"):
        surrogate.task("alpha", 7)
    with pytest.raises(InvalidConfig):
        bench.query({"backbone": "tiny.scratch"}, 1)
    with pytest.raises(InvalidConfig):
        bench.query(corpus.space.complete({"backbone": "tiny3d.scratch"}), 1)  # alpha is 2-D


def test_a_study_runs_on_it(bench):
    assert bench.configs is None
    found = mq.run(mq.optimizer("random", seed=0), bench, mq.Budget(epochs=60))
    assert found.incumbents
    assert found.stamp["benchmark"]["surrogate"]["corpus"] == "factory"


def test_the_command_runs_on_it_with_and_without_noise(surrogate, corpus_path, tmp_path, command):
    path = tmp_path / "auc.npz"
    save(surrogate, path)
    line = ("run", corpus_path, "--optimizer", "random", "--dataset", "alpha", "--kind", "surrogate", "--trials", 6)
    runs = {"mean": (), "one": ("--noise",), "other": ("--noise", "--trial-seed", 1)}
    values = {}
    for name, options in runs.items():
        done = command("metaquery", *line, "--file", path, *options, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
        stamp = json.loads((tmp_path / name / "trajectory.json").read_text())["benchmark"]
        assert (stamp["kind"], stamp["noise"], stamp["seed"]) == ("surrogate", name != "mean", int(name == "other"))
        values[name] = tuple(pq.read_table(tmp_path / name / "evaluations.parquet")["value"].to_pylist())
    assert len(set(values.values())) == 3
