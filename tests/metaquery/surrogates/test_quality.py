"""Measures by hand, cross-validation by config, the ceiling, agreement of rankings, and the commands."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import assert_one_line_error

from metaquery.errors import InvalidInput, UnknownName
from metaquery.surrogates.agreement import _correlation, agree
from metaquery.surrogates.families import FAMILIES
from metaquery.surrogates.quality import ceiling, ceiling_interval, evaluate, measure, top_regret
from metaquery.surrogates.training import folds_of
from metaquery.surrogates.trials import read_trials
from metaquery.types import Status


@pytest.fixture(scope="module")
def trials(corpus_path):
    import metaquery as mq

    return read_trials(mq.open(corpus_path), "auc")


def test_trials_are_those_of_the_tables(trials, corpus):
    rows = corpus.sql(
        "select 1 - val_auc, 1 - test_auc, ln(train_seconds), ln(eval_seconds) from curves "
        "join trials using (trial_id) "
        f"where config_id = '{trials.configs[3].config_id}' and dataset = 'alpha' and fold = 0 and seed = 0 "
        "order by epoch"
    ).rows()
    np.testing.assert_allclose(trials.curves[3].T, np.array(rows), rtol=1e-6)
    early = trials.status.index(Status.EARLY_STOPPED)
    ran = trials.epochs_run[early]
    assert (trials.curves[early, :2, ran:] == trials.curves[early, :2, ran - 1 : ran]).all()
    assert np.isnan(trials.curves[early, 2:, ran:]).all()


def test_perfect_and_reversed_predictions(trials):
    perfect = measure(trials, trials.curves)
    assert all(value == pytest.approx(1.0) for value in perfect.values())
    worse = measure(trials, -trials.curves)
    assert worse["spearman"] == worse["kendall"] == pytest.approx(-1.0)
    assert worse["r2"] < 0


def test_rank_correlations_weigh_as_they_are_sure(trials):
    """Five trials that are ranked right and nine that are ranked wrong: (4 - 8) / 12."""
    rows = [np.flatnonzero(trials.task == task)[:n] for task, n in ((0, 5), (1, 9))]
    few = trials.take(np.concatenate(rows))
    few.curves[:, 0, -1] = np.linspace(0.1, 0.9, 14)
    guess = few.curves.copy()
    guess[5:, 0, -1] *= -1.0
    found = measure(few, guess)
    assert found["spearman"] == found["kendall"] == pytest.approx(-1 / 3)


def test_top_k_regret_by_hand(trials):
    rows = np.flatnonzero(trials.task == 0)[:6]
    few = trials.take(rows)
    few.curves[:, 0, -1] = [0.5, 0.1, 0.3, 0.2, 0.4, 0.6]
    guess = few.curves.copy()
    guess[:, 0, -1] = [0.1, 0.5, 0.2, 0.3, 0.4, 0.6]  # best to worst: 0.5, 0.3, 0.2, 0.4, 0.1, 0.6
    found = top_regret(few, guess, np.arange(6))
    assert found == {"top_1": pytest.approx(0.8), "top_5": pytest.approx(0.0), "top_10": pytest.approx(0.0)}
    assert top_regret(few, guess, np.arange(3)) == {"top_1": None, "top_5": None, "top_10": None}


def test_the_ceiling_needs_repeats_and_is_one_without_noise(trials):
    once = trials.take(np.flatnonzero(trials.seed == 0))
    assert set(ceiling(once).values()) == {None}
    rows = np.flatnonzero(trials.seed == 0)
    twice = trials.take(np.concatenate([rows, rows]))
    known = ceiling(twice)
    assert known["spearman"] == pytest.approx(1.0)
    assert known["r2"] == pytest.approx(1.0)


def test_the_ceiling_is_what_an_oracle_reaches(trials):
    """On made curves whose means are known: the ceiling from repeats, beside the oracle's measures."""
    rng = np.random.default_rng(0)
    space, n = trials.space, 400
    configs = list(dict.fromkeys(space.sample(rng) for _ in range(n)))
    n = len(configs)
    mean = rng.normal(size=n)
    noisy = [0.5 + 0.1 * (mean + 0.7 * rng.normal(size=n)) for _ in range(3)]
    curves = np.zeros((3 * n, 4, trials.epochs))
    curves[:, :2] = np.concatenate(noisy)[:, None, None]
    curves[:, 2:] = rng.normal(size=(3 * n, 1, 1))
    made = replace(
        trials,
        configs=configs * 3,
        task=np.zeros(3 * n, np.int64),
        seed=np.repeat(np.arange(3), n),
        status=[Status.COMPLETED] * 3 * n,
        epochs_run=np.full(3 * n, trials.epochs),
        curves=curves,
    )
    once = made.take(np.arange(n))
    oracle = once.curves.copy()
    oracle[:, :2] = (0.5 + 0.1 * mean)[:, None, None]
    reached, known = measure(once, oracle), ceiling(made)
    for name in ("r2", "kendall", "spearman", "kendall_test", "spearman_test"):
        assert known[name] == pytest.approx(reached[name], abs=0.05), name
    low, high = ceiling_interval(made)
    assert low < known["spearman"] < high
    assert high - low < 0.1
    assert ceiling_interval(once) is None


def test_all_trials_of_a_config_are_in_one_part(trials):
    parts = folds_of(trials, 4)
    by_config: dict[str, set[int]] = {}
    for config, part in zip(trials.configs, parts.tolist(), strict=True):
        by_config.setdefault(config.config_id, set()).add(part)
    assert all(len(found) == 1 for found in by_config.values())
    assert set(parts.tolist()) == {0, 1, 2, 3}


def test_families_never_see_what_they_are_asked(corpus, monkeypatch):
    seen = []

    def spy(known, asked, seed):
        seen.append({c.config_id for c in known.configs} & {c.config_id for c in asked.configs})
        return np.full_like(asked.curves, 0.25) + 0.01 * asked.task[:, None, None]

    monkeypatch.setitem(FAMILIES, "spy", spy)
    found = evaluate(corpus, "auc", ["spy"], parts=3)
    assert seen == [set()] * 3
    assert found.families["spy"]["r2"] < 0.5
    assert found.families["spy"]["spearman"] is None  # it cannot rank within a dataset
    with pytest.raises(UnknownName, match="family"):
        evaluate(corpus, "auc", ["magic"])
    with pytest.raises(InvalidInput, match="parts"):
        evaluate(corpus, "auc", ["spy"], parts=1)


def test_trees_learn_the_curves_too(trials):
    held_out = folds_of(trials, 3) == 0
    known, asked = (trials.take(np.flatnonzero(rows)) for rows in (~held_out, held_out))
    found = FAMILIES["random_forest"](known, asked, 0)
    assert measure(asked, found)["r2_seconds"] > 0.6


def test_rank_correlation_by_hand():
    regrets = np.array([[0.1, 0.2, 0.3], [0.0, 0.5, 0.9]])
    assert _correlation(regrets, regrets * 2) == pytest.approx(1.0)
    assert _correlation(regrets, -regrets) == pytest.approx(-1.0)
    assert _correlation(regrets, np.zeros_like(regrets)) == 0.0


def test_optimizers_are_ranked_on_surrogates_of_what_the_others_saw(corpus, monkeypatch):
    import metaquery.surrogates.agreement as module

    learned = []

    def quick(trials):
        learned.append(len(trials))
        return module_fit(trials, module_settings(epochs=1, max_steps=50, members=1))

    from metaquery.surrogates.network import Settings as module_settings

    module_fit = module.fit
    monkeypatch.setattr(module, "fit", quick)
    found = agree(corpus, "auc", ("random", "asha", "successive_halving"), seeds=1)
    assert found.table.shape == found.surrogate.shape == (3, 3)
    assert len(learned) == 3
    assert found.course.shape == (2, len(found.moments), 3)
    assert found.course.sum(axis=2) == pytest.approx(np.full((2, len(found.moments)), 6.0))
    assert found.to_markdown().count("\n| ") == len(found.moments) + 2  # with two lines of head
    assert -1.0 <= found.interval[0] <= found.interval[1] <= 1.0
    assert "rank correlation" in str(found)
    with pytest.raises(InvalidInput, match="3 different"):
        agree(corpus, "auc", ("random", "asha"))


def test_the_commands(corpus_path, command, tmp_path):
    out = tmp_path / "auc.npz"
    done = command("metaquery", "surrogate", "train", corpus_path, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out)
    assert "training: " in done.stderr
    line = ("metaquery", "surrogate", "evaluate", corpus_path, "--families", "random_forest", "--seeds", 0)
    done = command(*line, "--out", tmp_path / "quality.json")
    assert done.returncode == 0, done.stderr
    assert "ceiling by seed noise" in done.stdout
    numbers = json.loads((tmp_path / "quality.json").read_text())
    assert numbers["metrics"]["auc"]["quality"]["families"]["random_forest"]["r2_seconds"] > 0.6
    assert_one_line_error(command(*line[:-1], 0, "--metrics", "auk"), "metric")
