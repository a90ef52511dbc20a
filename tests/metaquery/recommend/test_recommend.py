"""What is recommended from what is known: hand-computed matrices, made-up corpora, and no leaks."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factory import make_corpus

import metaquery as mq
from metaquery.errors import InvalidInput
from metaquery.metrics import metric
from metaquery.recommend import Knowledge, held_out, read_knowledge, recommend
from metaquery.recommend.nearness import bandwidth, distances, weights
from metaquery.space import Hyperparameter, SearchSpace

SPACE = SearchSpace("two", (Hyperparameter("optimizer", "categorical", "sgd", choices=("sgd", "adamw")),))
SGD, ADAMW = (SPACE.config({"optimizer": name}) for name in ("sgd", "adamw"))


def known(values, features, *, names=("size", "n_train"), families=None, ran=None) -> Knowledge:
    """Knowledge of the test AUC `values`, (datasets, 2), validation the same, one second per training sample."""
    values = np.array(values, float)
    n = len(values)
    spread = values.max(axis=1, keepdims=True) - values.min(axis=1, keepdims=True)
    return Knowledge(
        n_dims=2,
        metric=metric("auc"),
        judged="test",
        space=SPACE,
        datasets=tuple(f"d{i}" for i in range(n)),
        families=tuple(families or (f"f{i}" for i in range(n))),
        devices=("cpu",) * n,
        configs=(SGD, ADAMW),
        ran=np.ones(values.shape, bool) if ran is None else np.array(ran),
        score=(values.max(axis=1, keepdims=True) - values) / spread,
        value=values,
        seconds=np.tile([1.0, 4.0], (n, 1)),
        names=names,
        features=np.array(features, float),
    )


def test_distance_is_the_mean_difference_of_ranks():
    item = known([[0.9, 0.8]] * 4, [[1, 5], [2, 5], [4, 5], [8, 5]])  # the second feature never varies
    # Of 4 values, 2 has rank share (1 + 1/2) / 4; the places of the known are 1/8, 3/8, 5/8 and 7/8.
    assert distances(item, np.array([2.0, 99.0])) == pytest.approx([2 / 8, 0, 2 / 8, 4 / 8])
    assert distances(item, np.array([1e9, 99.0])) == pytest.approx([7 / 8, 5 / 8, 3 / 8, 1 / 8])
    assert distances(item, np.array([math.nan, 5.0])) == pytest.approx([1, 1, 1, 1])
    holed = replace(item, features=np.array([[1, 5], [math.nan, 5], [4, 6], [8, 5]], float))
    found = distances(holed, np.array([1.0, 6.0]))
    assert found[0] == pytest.approx((0 + 4 / 8) / 2)
    assert found[1] == pytest.approx(4 / 8)  # by the second feature alone


def test_distances_do_not_depend_on_the_scale():
    item = known([[0.9, 0.8]] * 3, [[1, 5], [2, 7], [4, 6]])
    logs = replace(item, features=np.log(item.features))
    new = np.array([3.0, 6.5])
    assert np.array_equal(distances(item, new), distances(logs, np.log(new)))


def test_weights_are_a_gaussian_kernel():
    assert weights(np.array([0.0, 0.2]), 0.2) == pytest.approx([1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(0.5))])
    assert weights(np.array([0.0, 0.9]), math.inf) == pytest.approx([0.5, 0.5])
    assert weights(np.array([0.5, 1.0]), 1e-3) == pytest.approx([1.0, 0.0])  # no division by zero


def alike_and_different() -> Knowledge:
    """Twelve datasets: SGD is better on the small ones, AdamW on the large ones."""
    rng = np.random.default_rng(0)
    values = [[0.9, 0.7] if i < 6 else [0.7, 0.9] for i in range(12)] + rng.normal(0, 0.01, (12, 2))
    return known(values, [[i, 100 * i] for i in range(12)])


def test_nearness_counts_where_it_helps_and_only_there():
    useful = alike_and_different()
    assert bandwidth(useful) < math.inf
    constant = replace(useful, value=np.tile([0.9, 0.7], (12, 1)), score=np.tile([0.0, 1.0], (12, 1)))
    assert bandwidth(constant) == math.inf
    assert bandwidth(useful.without("f0")._rows([0, 1])) == math.inf  # two families: nothing to choose by


def test_the_study_shows_that_nearness_helps():
    found = held_out(alike_and_different())
    regret = dict(zip(("recommended", "best_on_average", "default", "random"), found.regret.mean(axis=0)))
    assert regret["recommended"] <= 2 / 12 + 1e-9  # the two at the border may be taken for the others
    assert regret["best_on_average"] > 0.9  # without the dataset itself, the other half is in the majority
    assert regret["default"] == pytest.approx(0.5)
    assert regret["random"] == pytest.approx(0.5)
    assert "is better than the best config on average" in found.describe()


def test_the_study_never_sees_the_family_that_it_judges():
    """Whatever is changed in the rows of a family, its own predictions stay."""
    item = alike_and_different()
    family = replace(item, families=("a", "a", *item.families[2:]))
    changed = replace(family, value=family.value.copy(), score=family.score.copy())
    changed.value[:2] = [[0.1, 0.6], [0.2, 0.6]]
    changed.score[:2] = [[1.0, 0.0], [1.0, 0.0]]
    first, second = held_out(family), held_out(changed)
    assert second.regret[:2, 0] == pytest.approx(1 - first.regret[:2, 0])
    assert len(first.families) == 11


def test_the_recommendation_by_hand():
    item = known([[0.9, 0.7], [0.8, 0.6]], [[1, 10], [2, 20]])
    found = recommend(item, {"size": 1.0, "n_train": 40.0})
    assert [suggested.config for suggested in found.suggested] == [SGD, ADAMW]
    first, second = found.suggested
    assert (first.expected, second.expected) == pytest.approx((0.85, 0.65))
    assert (first.seconds, second.seconds) == pytest.approx((40.0, 160.0))
    # Each of the two families misses the other by 0.1: t(0.975, 2) = 4.3027.
    assert (first.low, first.high) == pytest.approx((0.85 - 0.43027, 1.0), abs=1e-4)
    assert [near.dataset for near in found.neighbours] == ["d0", "d1"]
    assert found.neighbours[0].alike == (("size", 1.0, 1.0),)
    text = found.describe()
    assert "0.850 (0.42 to 1.00), about 40.0 s: optimizer=sgd" in text
    assert "2 other 2-D families only" in text
    assert "all its datasets count the same, and this is its average" in text


def test_the_own_family_is_left_out_and_said_so():
    item = known([[0.9, 0.7], [0.6, 0.8], [0.7, 0.9]], [[1, 10], [2, 20], [3, 30]])
    found = recommend(item, {"size": 1.0, "n_train": 40.0}, name="new", family="f0")
    assert found.suggested[0].config == ADAMW
    assert any("left out" in text and "d0" in text for text in found.warnings)
    with pytest.raises(InvalidInput, match="this dataset's own"):
        recommend(item.without("f1").without("f2"), {}, family="f0")


def test_one_family_gives_no_interval_and_no_claim():
    found = recommend(known([[0.9, 0.7]], [[1, 10]]), {"size": 3.0})
    assert math.isnan(found.suggested[0].low)
    assert math.isnan(found.suggested[0].seconds)
    assert "interval unknown), time unknown" in found.describe()
    assert "cannot be held out" in found.evidence.describe()


def test_a_dataset_far_from_all_is_said_to_be_so():
    item = known([[0.9, 0.7]] * 4, [[1, 10], [2, 20], [3, 30], [4, 40]])
    assert not any("farther" in text for text in recommend(item, {"size": 2.0, "n_train": 20.0}).warnings)
    far = recommend(item, {"size": 2.0, "n_train": 1e9, "other": 1.0})
    assert any("farther" in text for text in far.warnings)
    assert any("no meta-feature" in text for text in recommend(item, {"other": 1.0}).warnings)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> mq.Corpus:
    path = tmp_path_factory.mktemp("recommend") / "factory"
    return mq.open(make_corpus(path, datasets=("alpha", "beta", "gamma", "delta", "epsilon"), folds=2))


def test_knowledge_is_what_the_tables_say(corpus: mq.Corpus):
    item = read_knowledge(corpus, 2)
    assert item.datasets == ("alpha", "delta", "epsilon", "gamma")
    assert item.judged == "test"
    query = """select t.config_id, avg(coalesce(b.test, w.worst)) from trials t
        left join best_epoch b using (trial_id)
        join (select dataset, min(test) as worst from best_epoch group by 1) w on w.dataset = t.dataset
        where t.dataset = 'alpha' group by 1"""
    columns = {config.config_id: i for i, config in enumerate(item.configs)}
    for config_id, value in corpus.sql(query).rows():
        assert item.ran[0, columns[config_id]]
        assert item.value[0, columns[config_id]] == pytest.approx(value, abs=1e-6)
    assert item.ran[0].sum() == len(corpus.sql(query))
    for row, there in zip(item.score, item.ran):
        assert (row[there].min(), row[there].max()) == (0.0, 1.0)
    assert np.isfinite(item.score).all()  # filled where a dataset has no trial
    assert read_knowledge(corpus, 3).datasets == ("beta",)


def test_a_value_that_was_not_measured_comes_from_its_dataset_alone(corpus: mq.Corpus):
    """Filling knows nothing of other datasets, so that holding one out leaks nothing."""
    from metaquery.recommend.knowledge import _Complete

    ran = np.array([[True] * 6 + [False] * 3, [True] * 9])
    configs = read_knowledge(corpus, 2).configs[:9]
    values = np.where(ran, np.arange(18.0).reshape(2, 9), np.nan)
    complete = _Complete(corpus.space, configs)
    first = complete(values)
    assert np.array_equal(first[ran], values[ran])
    values[1] += 100
    assert np.array_equal(complete(values)[0], first[0])


def test_the_same_corpus_gives_the_same_recommendation(corpus: mq.Corpus):
    features = {"n_train": 50.0, "n_classes": 2.0}
    texts = {recommend(read_knowledge(corpus, 2), features, family="family_one").describe() for _ in range(2)}
    assert len(texts) == 1
    assert "alpha, gamma" in texts.pop()


def test_no_dataset_of_such_dimensions(tmp_path: Path):
    flat = mq.open(make_corpus(tmp_path / "flat", datasets=("alpha",), sobol=0, repeats=0, epochs=3))
    with pytest.raises(InvalidInput, match="no trial of a 3-D dataset"):
        read_knowledge(flat, 3)
