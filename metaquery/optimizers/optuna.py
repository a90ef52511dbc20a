"""Optuna (Akiba et al., KDD 2019): its TPE sampler with its Hyperband pruner, through the `optuna` package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from metaquery.optimizers._wrapped import Climbing
from metaquery.space import Config, Hyperparameter, SearchSpace, Value
from metaquery.types import Task


class Optuna(Climbing):
    """TPE with Hyperband pruning: a trial is asked for at every rung until the pruner stops it.

    The rungs are max, max / eta, max / eta^2 ... of at least one epoch; the pruner knows them by number, so that they
    need not be powers of eta.
    """

    packages = ("optuna",)
    extra = "optuna"

    def _bind(self, task: Task) -> None:  # noqa: ARG002
        import optuna

        eta, highest = self.options["eta"], len(self._rungs) - 1
        with _quiet():
            self._study = optuna.create_study(
                sampler=optuna.samplers.TPESampler(seed=self.seed),
                pruner=optuna.pruners.HyperbandPruner(1, eta**highest, eta),
                study_name=f"metaquery-{self.seed}",  # the pruner's brackets follow from the name
            )

    def _begin(self) -> tuple[Any, Config]:
        trial = self._study.ask()
        return trial, suggest(trial, self.task.space)

    def _goes_on(self, trial: Any, level: int, loss: float) -> bool:
        import optuna

        trial.report(loss, self.options["eta"] ** level)
        if trial.should_prune():
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return False
        return True

    def _end(self, trial: Any, level: int, loss: float) -> None:
        trial.report(loss, self.options["eta"] ** level)
        self._study.tell(trial, loss)


def suggest(trial: Any, space: SearchSpace) -> Config:
    """The config of `space` that an Optuna `trial` suggests; only active hyperparameters are asked of it."""
    values: dict[str, Value] = {}
    for hp in space.hyperparameters:
        if space.is_active(hp, values):
            values[hp.name] = _suggested(trial, hp)
    return space.config(values)


def _suggested(trial: Any, hp: Hyperparameter) -> Value:
    value: Value
    if hp.choices:
        value = trial.suggest_categorical(hp.name, hp.choices)
    elif hp.kind == "integer":
        value = trial.suggest_int(hp.name, int(hp.low), int(hp.high), log=hp.log)
    else:
        value = trial.suggest_float(hp.name, hp.low, hp.high, log=hp.log)
    return value


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the line that a new study writes to standard error."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
