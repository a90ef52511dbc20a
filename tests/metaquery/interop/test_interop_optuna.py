"""A benchmark as the objective of a real Optuna study."""

from __future__ import annotations

import math
from typing import Any

import pytest

from metaquery.interop.optuna import objective
from metaquery.testing import TOY_SPACE, SyntheticBenchmark

optuna = pytest.importorskip("optuna", reason="optuna is not installed")


def study(bench: Any, n: int, pruner: Any = None) -> Any:
    found = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1), pruner=pruner or optuna.pruners.NopPruner())
    found.optimize(objective(bench), n_trials=n)
    return found


def test_a_study_minimises_the_loss_of_active_hyperparameters() -> None:
    bench = SyntheticBenchmark()
    states = set()
    for trial in study(bench, 40).trials:
        config = TOY_SPACE.config(trial.params)
        assert trial.user_attrs["config_id"] == config.config_id
        observation = bench.query(config, trial.user_attrs["epoch"])
        assert trial.user_attrs["cost_seconds"] == observation.cost_seconds
        assert trial.user_attrs["status"] == observation.status
        states.add(trial.state)
        if trial.state is optuna.trial.TrialState.COMPLETE:
            assert trial.value == bench.query(config, 27).value
            assert trial.intermediate_values == {e: bench.query(config, e).value for e in range(1, 28)}
        else:
            assert math.isnan(observation.value)
    assert states == {optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL}


def test_a_pruner_stops_trials() -> None:
    trials = study(SyntheticBenchmark(failing=0.0), 30, optuna.pruners.HyperbandPruner(1, 27, 3)).trials
    pruned = [t for t in trials if t.state is optuna.trial.TrialState.PRUNED]
    assert pruned
    assert all(t.user_attrs["epoch"] < 27 for t in pruned)


def test_a_table_answers_with_the_nearest_config() -> None:
    grid = tuple(TOY_SPACE.grid()[::2])
    bench = SyntheticBenchmark(configs=grid)
    ids = {config.config_id for config in grid}
    assert {trial.user_attrs["config_id"] for trial in study(bench, 20).trials} <= ids
