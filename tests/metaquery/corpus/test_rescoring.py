"""Metrics after the fact, temperature scaling and ensembles, on hand-made numbers and on stored predictions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metaquery as mq
from metaquery.ensembles import greedy_selection
from metaquery.errors import InvalidInput, UnknownName
from metaquery.metrics import METRICS, compute_all, log_loss
from metaquery.rescoring import HOTTEST, brier, mcc, scaled, temperature
from metaquery.schema.predictions import SPLITS


def binary(*of_class_one: float) -> np.ndarray:
    score = np.array(of_class_one)
    return np.stack([1.0 - score, score], axis=1)


def test_brier_and_mcc_by_hand() -> None:
    y_prob = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    assert brier(np.array([0, 2]), y_prob) == pytest.approx((0.25 + 0.09 + 0.04 + 0.01 + 0.64 + 0.81) / 2)
    truth = np.array([1, 1, 1, 0, 0, 0])  # 2 true and 1 false positives, 2 true and 1 false negatives
    assert mcc(truth, binary(0.9, 0.9, 0.1, 0.1, 0.1, 0.9)) == pytest.approx((2 * 2 - 1) / math.sqrt(3**4))
    assert mcc(truth, binary(*[0.9] * 6)) == 0.0


def test_rescoring_a_metric_of_the_curves_gives_the_curve(corpus: mq.Corpus) -> None:
    scored = {row[0]: row for row in corpus.rescore("accuracy", epochs=[3]).rows() if row[5] == "test"}
    expected = corpus.sql(
        "select trial_id, dataset, fold, test_accuracy from curves join trials using (trial_id) where epoch = 3"
    ).rows()
    assert len(scored) == len(expected) > 0  # none of a trial that ended before
    for trial_id, dataset, fold, value in expected:
        assert scored[trial_id] == (trial_id, dataset, fold, "3", 3, "test", pytest.approx(value, abs=1.3e-4))


def test_a_function_is_a_metric(corpus: mq.Corpus) -> None:
    trial_id = corpus.sql("select trial_id from trials where status = 'completed' limit 1").rows()[0][0]

    def sure(y_true: np.ndarray, y_prob: np.ndarray) -> float:
        return float((y_prob.max(axis=1) > 0.5).mean())

    result = corpus.rescore(sure, [trial_id], epochs=["last", 1])
    assert result.columns == ("trial_id", "dataset", "fold", "checkpoint", "epoch", "split", "sure")
    expected = [sure(*corpus.predictions(trial_id, split, k)) for k in ("last", 1) for split in SPLITS]
    assert [row[3:6] for row in result.rows()] == [(k, e, s) for k, e in (("last", 27), ("1", 1)) for s in SPLITS]
    assert [row[6] for row in result.rows()] == expected
    assert corpus.rescore(lambda _y, _p: 1.0, [trial_id]).columns[-1] == "value"
    memory = corpus.sql("select trial_id from trials where status = 'out_of_memory' limit 1").rows()[0]
    assert corpus.checkpoints(memory[0]) == {}
    assert corpus.rescore(sure, memory).rows() == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((("acuracy",)), UnknownName, "unknown metric 'acuracy': did you mean accuracy.* or give a function"),
        ((3.0,), InvalidInput, "metric must be a name or a function"),
        ((lambda _y, _p: "much",), InvalidInput, "must return one number, got str"),
        (("brier", ["nope"]), UnknownName, "unknown trial 'nope'"),
        (("brier", "nope"), InvalidInput, "expected a list of trial ids, got the text 'nope'"),
        (("brier", None, [2]), InvalidInput, "at epoch 2 are not stored: expected one of 1, 3, 9, 27, 'best', 'last'"),
        (("brier", None, [True]), InvalidInput, "at epoch True"),
    ],
)
def test_refusals(corpus: mq.Corpus, arguments: tuple, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        corpus.rescore(*arguments)


# Temperature ---------------------------------------------------------------------------------------------------------


def test_the_temperature_of_a_constant_model() -> None:
    """Three of four are right: the best probability is 3/4, whatever the model says."""
    y_true = np.array([1, 1, 1, 0])
    for said in (0.6, 0.9, 0.999):
        fitted = temperature(y_true, binary(*[said] * 4))
        assert fitted == pytest.approx(math.log(said / (1 - said)) / math.log(3.0), rel=1e-6)
        assert scaled(binary(said), fitted)[0, 1] == pytest.approx(0.75)


def test_temperatures_stay_in_their_range() -> None:
    y_prob = binary(0.6, 0.4)
    assert temperature(np.array([1, 0]), y_prob) == pytest.approx(1 / HOTTEST)
    assert temperature(np.array([0, 1]), y_prob) == pytest.approx(HOTTEST)
    assert np.isfinite(scaled(np.array([[1.0, 0.0]]), 0.01)).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 5.0))
def test_no_temperature_beats_the_fitted_one(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    y_prob = rng.dirichlet(np.full(3, spread), 50)
    y_true = np.array([rng.choice(3, p=p) for p in y_prob])
    fitted = temperature(y_true, y_prob)
    best = log_loss(y_true, scaled(y_prob, fitted))
    for other in (fitted * 0.9, fitted * 1.1, 1.0, 0.5, 3.0):
        assert best <= log_loss(y_true, scaled(y_prob, other)) + 1e-9
    assert np.array_equal(scaled(y_prob, fitted).argmax(axis=1), y_prob.argmax(axis=1))


def test_calibration_is_fitted_on_validation_and_reported_on_test(corpus: mq.Corpus) -> None:
    ids = [row[0] for row in corpus.sql("select trial_id from trials where dataset = 'beta' limit 4").rows()]
    result = corpus.calibrate(ids, "last")
    assert len(result) == 4
    for trial_id, fitted, loss, after, ece, ece_after in result.rows():
        assert fitted == temperature(*corpus.predictions(trial_id, "val"))
        y_true, y_prob = corpus.predictions(trial_id, "test")
        before, then = compute_all(y_true, y_prob), compute_all(y_true, scaled(y_prob, fitted))
        assert (loss, after, ece, ece_after) == (before["loss"], then["loss"], before["ece"], then["ece"])
    assert corpus.calibrate().columns == result.columns


# Ensembles -----------------------------------------------------------------------------------------------------------


def test_greedy_selection_by_hand() -> None:
    """Model 1 is best alone (2 of 3 right); with model 2 all are; model 0 never helps."""
    y_true = np.array([1, 1, 1])
    y_prob = np.stack([binary(0.1, 0.2, 0.9), binary(0.6, 0.7, 0.1), binary(0.45, 0.4, 0.95)])
    assert greedy_selection(y_true, y_prob, METRICS["accuracy"], 1) == [1]
    assert greedy_selection(y_true, y_prob, METRICS["accuracy"], 5) == [1, 2]  # a mean of (0.525, 0.55, 0.525)


def test_selection_is_with_replacement_and_weighs() -> None:
    """The best mix of p = 0.9 and p = 0.3 for a true rate of 3/4 is 3 to 1; four steps find it."""
    y_true = np.array([1, 1, 1, 0])
    y_prob = np.stack([binary(*[0.9] * 4), binary(*[0.3] * 4)])
    assert greedy_selection(y_true, y_prob, METRICS["loss"], 7) == [0, 1, 0, 0]
    assert greedy_selection(y_true, y_prob, METRICS["loss"], 2) == [0, 1]


def test_an_undefined_metric_selects_the_first() -> None:
    y_prob = np.stack([binary(0.2, 0.3), binary(0.9, 0.8)])
    assert greedy_selection(np.array([1, 1]), y_prob, METRICS["auc"], 3) == [0]


def test_ensemble_of_a_dataset(corpus: mq.Corpus) -> None:
    found = corpus.ensemble("beta", fold=1, metric="loss", size=12, epoch="last")
    ran = "select trial_id from trials where dataset = 'beta' and fold = 1 and epochs_run > 0"
    ids = [row[0] for row in corpus.sql(ran).rows()]
    assert found.candidates == len(ids)
    assert sum(found.weights.values()) == pytest.approx(1.0)
    assert list(found.weights.values()) == sorted(found.weights.values(), reverse=True)
    for split, value in (("val", found.val), ("test", found.test)):
        y_true = corpus.predictions(ids[0], split)[0]
        mixed = sum(w * corpus.predictions(trial_id, split)[1] for trial_id, w in found.weights.items())
        np.testing.assert_allclose(found.y_prob[split], mixed)
        assert value == pytest.approx(log_loss(y_true, mixed))
    alone = {trial_id: log_loss(*corpus.predictions(trial_id, "val")) for trial_id in ids}
    assert found.single == min(alone, key=alone.__getitem__)
    assert found.val <= found.single_val == alone[found.single]
    assert found.single_test == log_loss(*corpus.predictions(found.single, "test"))
    again = corpus.ensemble("beta", fold=1, metric=METRICS["loss"], size=12, epoch="last")
    assert again.weights == found.weights
    only = corpus.ensemble("beta", fold=1, trials=ids[:1])
    assert only.weights == {ids[0]: 1.0}
    assert "1 of 1 trials: validation auc" in str(only)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "bta"}, "unknown dataset 'bta'"),
        ({"dataset": "beta", "fold": 7}, "no trial of beta fold 7 has predictions at epoch 'best'"),
        ({"dataset": "beta", "size": 0}, "a size of at least 1, got 0"),
        ({"dataset": "beta", "metric": "aucc"}, "unknown metric 'aucc'"),
        ({"dataset": "beta", "epoch": 4}, "epoch 4 are not stored"),
    ],
)
def test_refused_ensembles(corpus: mq.Corpus, arguments: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        corpus.ensemble(**arguments)
