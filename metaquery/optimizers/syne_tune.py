"""Schedulers of Syne Tune (Salinas et al., AutoML 2022) as a bridge, through the `syne_tune` package."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from inspect import signature
from typing import Any, ClassVar

from metaquery.errors import UnknownName
from metaquery.optimizers._globals import OwnGenerators, quiet
from metaquery.optimizers._wrapped import Climbing
from metaquery.space import Config, Hyperparameter, SearchSpace
from metaquery.types import Task

_LOSS, _LEVEL = "loss", "level"


class SyneTune(Climbing):
    """Any single-objective scheduler of `syne_tune.optimizer.baselines`, by its class name, such as ASHA, BOHB or TPE.

    One with fidelities is told a trial at every rung (max, max / eta, ...) until it stops it, as a power of eta; one
    without trains all to the end. Syne Tune knows no conditions: it chooses inactive hyperparameters too, and those are
    dropped. It draws from the global random generators, which get a state of its own while it works.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"scheduler": "ASHA", "eta": 3}
    packages = ("syne-tune",)
    extra = "syne-tune"

    def _bind(self, task: Task) -> None:
        eta = self.options["eta"]
        make = _scheduler(self.options["scheduler"])
        parameters = signature(make).parameters
        options: dict[str, Any] = {"config_space": to_syne_tune(task.space), "random_seed": self.seed}
        options["metrics" if "metrics" in parameters else "metric"] = [_LOSS] if "metrics" in parameters else _LOSS
        if "time_attr" in parameters:
            options |= {"time_attr": _LEVEL, "max_t": eta ** (len(self._rungs) - 1), "reduction_factor": eta}
        else:
            self._rungs = self._rungs[-1:]
        self._own = OwnGenerators(self.seed)
        self._trials = 0
        with self._own(), quiet("syne_tune"):
            self._scheduler = make(**options)

    def _begin(self) -> tuple[Any, Config] | None:
        from syne_tune.backend.trial_status import Trial

        with self._own(), quiet("syne_tune"):
            suggestion = self._scheduler.suggest()
            if suggestion is None:
                return None
            trial = Trial(self._trials, suggestion.config, datetime.fromtimestamp(0, UTC))
            self._scheduler.on_trial_add(trial)
        self._trials += 1
        return trial, from_syne_tune(self.task.space, suggestion.config)

    def _goes_on(self, trial: Any, level: int, loss: float) -> bool:
        from syne_tune.optimizer.scheduler import SchedulerDecision

        with self._own(), quiet("syne_tune"):
            decision = self._scheduler.on_trial_result(trial, {_LOSS: loss, _LEVEL: self.options["eta"] ** level})
        return bool(decision == SchedulerDecision.CONTINUE)

    def _end(self, trial: Any, level: int, loss: float) -> None:
        with self._own(), quiet("syne_tune"):
            self._scheduler.on_trial_complete(trial, {_LOSS: loss, _LEVEL: self.options["eta"] ** level})


def to_syne_tune(space: SearchSpace) -> dict[str, Any]:
    """`space` as a configuration space of Syne Tune, without its conditions."""
    return {hp.name: _domain(hp) for hp in space.hyperparameters}


def from_syne_tune(space: SearchSpace, configuration: Mapping[str, Any]) -> Config:
    """The Config that `configuration` of `to_syne_tune(space)` stands for, with what is inactive dropped."""
    values = {hp.name: configuration[hp.name] for hp in space.hyperparameters if hp.name in configuration}
    return space.complete({name: getattr(value, "item", lambda value=value: value)() for name, value in values.items()})


def _domain(hp: Hyperparameter) -> Any:
    from syne_tune import config_space

    if len(hp.choices) == 1:
        return hp.choices[0]
    if hp.kind == "ordinal":
        return config_space.ordinal(list(hp.choices), kind="equal")
    if hp.choices:
        return config_space.choice(list(hp.choices))
    if hp.kind == "integer":
        return (config_space.lograndint if hp.log else config_space.randint)(int(hp.low), int(hp.high))
    return (config_space.loguniform if hp.log else config_space.uniform)(hp.low, hp.high)


def _scheduler(name: str) -> Any:
    from syne_tune.optimizer import baselines
    from syne_tune.optimizer.scheduler import TrialScheduler

    found = {
        key: item
        for key, item in vars(baselines).items()
        if isinstance(item, type) and issubclass(item, TrialScheduler) and item.__module__ == baselines.__name__
    }
    if name not in found:
        raise UnknownName.of("scheduler of Syne Tune", name, found)
    return found[name]
