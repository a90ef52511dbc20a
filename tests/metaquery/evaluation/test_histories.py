"""What learners are given: validation curves of the training datasets alone, and nothing of the target's family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import assert_one_line_error

import metaquery as mq
from metaquery.errors import InvalidInput, LeakageError, UnknownName
from metaquery.evaluation import history
from metaquery.evaluation.histories import Histories
from metaquery.evaluation.protocols import Fold
from metaquery.optimizers import History, optimizer


def metafeatures(corpus: mq.Corpus, dataset: str, fold: int) -> dict[str, float]:
    rows = corpus.table("metafeatures").to_pylist()
    return {r["name"]: r["value"] for r in rows if (r["dataset"], r["fold"]) == (dataset, fold)}


@pytest.mark.parametrize(("fold", "failures", "stops"), [(0, 5, 1), (1, 0, 0)])
def test_a_history_holds_the_validation_curves(corpus: mq.Corpus, fold: int, failures: int, stops: int) -> None:
    found = history(corpus, "beta", fold=fold)
    assert [item.dataset for item in found.training] == ["alpha", "gamma"]
    assert found.target == metafeatures(corpus, "beta", fold)
    failed = stopped = 0
    for item in found.training:
        bench = corpus.benchmark(item.dataset, fold=fold)
        assert item.configs == bench.configs
        assert item.metafeatures == metafeatures(corpus, item.dataset, fold)
        assert item.losses.shape == item.seconds.shape == (len(item.configs), corpus.epochs)
        for config, losses, seconds in zip(item.configs, item.losses, item.seconds, strict=True):
            curve = bench.curve(config)
            n = curve.epochs_run
            assert losses[:n].tolist() == pytest.approx(curve.value.tolist(), nan_ok=True)
            assert seconds[:n].tolist() == curve.seconds.tolist()
            if curve.stands(corpus.epochs) is None:
                assert np.isnan(losses[n:]).all()
                assert np.isnan(seconds[n:]).all()
                failed += 1
            elif n < corpus.epochs:  # it stopped by its own rule
                assert set(losses[n:]) == {curve.value[-1]}
                assert set(seconds[n:]) == {0.0}
                stopped += 1
    assert (failed, stopped) == (failures, stops)


def test_a_dataset_without_the_fold_trains_with_its_first(corpus: mq.Corpus) -> None:
    histories = Histories(corpus, "auc", 1, 0)
    histories._folds_of["alpha"] = {0}
    (alpha, _) = histories.of(Fold("beta", ("alpha", "gamma"))).training
    assert alpha.losses == pytest.approx(history(corpus, "beta", ["alpha"], fold=0).training[0].losses, nan_ok=True)


def test_the_family_of_the_target_never_trains(corpus: mq.Corpus) -> None:
    assert [item.dataset for item in history(corpus, "alpha").training] == ["beta"]
    for name in ("alpha", "gamma"):
        with pytest.raises(LeakageError, match=rf"{name} \(training\) and alpha \(test\) of family family_one"):
            history(corpus, "alpha", [name])
        with pytest.raises(LeakageError, match=rf"{name} \(validation\) and alpha \(test\)"):
            history(corpus, "alpha", ["beta"], [name])
    with pytest.raises(UnknownName, match="unknown dataset 'omega'"):
        history(corpus, "alpha", ["omega"])
    with pytest.raises(UnknownName, match="unknown dataset 'omega'"):
        history(corpus, "omega")


def test_validation_datasets_stand_apart(corpus: mq.Corpus) -> None:
    found = history(corpus, "beta", ["alpha"])
    (alpha,) = found.training
    assert found.validation == ()
    assert [item.dataset for item in history(corpus, "beta", validation=["gamma"]).training] == []  # alpha's family
    (beta,) = history(corpus, "alpha", validation=["beta"]).validation
    with pytest.raises(LeakageError, match="validation dataset alpha and training dataset alpha are of the family"):
        History(training=(alpha,), target={}, validation=(alpha,))
    with pytest.raises(LeakageError, match="validation dataset beta is of the family of the target, family_two"):
        History(training=(alpha,), target={}, target_family="family_two", validation=(beta,))


def test_learners_are_evaluated_with_what_their_fold_lets_them_see(corpus: mq.Corpus) -> None:
    seen: dict[str, list[str]] = {}

    def spy(seed: int, history: History) -> Any:
        seen[str(dict(history.target))] = [item.dataset for item in history.training]
        return optimizer("portfolio", seed=seed, history=history, size=3)

    found = mq.evaluate(
        corpus, {"spy": spy, "plain": lambda seed: optimizer("random", seed=seed)}, budget=mq.Budget(trials=3), seeds=2
    )
    by_dataset = {fold["test"]: fold["train"] for fold in found.provenance["protocol"]["folds"]}
    assert seen == {str(metafeatures(corpus, name, 0)): train for name, train in by_dataset.items()}
    stamps = found.provenance["optimizers"]
    assert stamps[0] == {"label": "spy", "name": "portfolio", "options": {"size": 3}, "versions": {}}


def test_learners_need_training_datasets(corpus: mq.Corpus, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nearest_dataset learns from other datasets, and there are none"):
        mq.evaluate(corpus, ["nearest_dataset"], budget=mq.Budget(trials=1), protocol="single", out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_run_gives_a_learner_all_other_families(command: Callable[..., Any], corpus_path: Path) -> None:
    line = ["run", corpus_path, "--optimizer", "nearest_dataset", "--dataset", "beta", "--trials", 2]
    done = command("metaquery", *line)
    assert done.returncode == 0, done.stderr
    assert "nearest_dataset on beta: 2 evaluations" in done.stdout
    assert_one_line_error(command("metaquery", *line, "--fold", 9), "fold")
