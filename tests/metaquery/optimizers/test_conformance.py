"""Every optimizer passes the suite, and the suite catches what it is there to catch."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaquery.errors import MissingExtra
from metaquery.optimizers import optimizer, optimizer_class, optimizer_names
from metaquery.optimizers.base import Optimizer
from metaquery.space import Config
from metaquery.testing import (
    OPTIMIZER_CHECKS,
    TOY_SPACE,
    Factory,
    check_bound_once,
    check_candidates,
    check_configs,
    check_failures,
    check_finishes,
    check_monotone,
    check_no_side_effects,
    check_optimizer,
    check_parallel,
    check_reproducible,
    check_resumes,
    toy_history,
)
from metaquery.types import Observation, Suggestion, Task

QUICK = {"quicktune": {"meta_steps": 60}}  # options of those that would take minutes otherwise


@pytest.mark.parametrize("name", optimizer_names())
@pytest.mark.parametrize("check", OPTIMIZER_CHECKS, ids=lambda check: check.__name__)
def test_conformance(name: str, check: Callable[[Factory], None]) -> None:
    options: dict[str, Any] = dict(QUICK.get(name, {}))
    if optimizer_class(name).needs_history:
        options["history"] = toy_history()
    try:
        optimizer(name, **options)
    except MissingExtra as error:
        pytest.skip(str(error))
    check(lambda seed: optimizer(name, seed=seed, **options))


class Sampler(Optimizer):
    """A correct optimizer, for the broken ones to differ from in one point each."""

    def _bind(self, task: Task) -> None:
        self.rng = np.random.default_rng(self.seed)

    def _ask(self, token: int) -> tuple[Config, int] | None:
        return self.config(), 9

    def config(self) -> Config:
        task = self.task
        if task.candidates is not None:
            return task.candidates[int(self.rng.integers(len(task.candidates)))]
        return task.space.sample(self.rng)


class KeepsInactive(Sampler):
    def config(self) -> Config:
        return Config({"momentum": 0.9, **super().config(), "optimizer": "adam"})


class LeavesTheTable(Sampler):
    def config(self) -> Config:
        return self.task.space.sample(self.rng)


class IgnoresTheSeed(Sampler):
    def _bind(self, task: Task) -> None:
        self.rng = np.random.default_rng(0)


class NotReproducible(Sampler):
    def _bind(self, task: Task) -> None:
        self.rng = np.random.default_rng()


class BreaksOnFailure(Sampler):
    def _tell(self, suggestion: Suggestion, observation: Observation, loss: float) -> None:
        round(observation.value)


class OneAtATime(Sampler):
    def _ask(self, token: int) -> tuple[Config, int] | None:
        assert len(self._pending) == 0, "not parallel"
        return super()._ask(token)


class ForgetsToCheck(Sampler):
    def tell(self, suggestion: Suggestion, observation: Observation) -> None:
        self._pending.pop(suggestion.token, None)


class SeedsNumpy(Sampler):
    def _bind(self, task: Task) -> None:
        super()._bind(task)
        np.random.seed(123)  # noqa: NPY002


class SeedsPython(Sampler):
    def _bind(self, task: Task) -> None:
        super()._bind(task)
        random.seed(123)


class GoesBack(Sampler):
    def _ask(self, token: int) -> tuple[Config, int] | None:
        return self.task.space.default(), 9 - token % 3


class SaidToBeDeterministic(Sampler):
    deterministic = True


class ForgetsItsPast(Sampler):
    def load(self, state: Mapping[str, Any]) -> list[Suggestion]:
        suggestions = super().load(state)
        self.rng = np.random.default_rng(self.seed)
        return suggestions


class ForgetsWhatRuns(Sampler):
    def load(self, state: Mapping[str, Any]) -> list[Suggestion]:
        super().load(state)
        return []


class SavesArrays(Sampler):
    def state(self) -> dict[str, Any]:
        return {**super().state(), "rng": self.rng}


class GoesOnAfterItsEnd(Sampler):
    def ask(self) -> Suggestion | None:
        if len(self._events) > 40:
            self._finished = True
            return None
        return super().ask()


class WritesFiles(Sampler):
    def _bind(self, task: Task) -> None:
        super()._bind(task)
        Path("optimizer.log").write_text("")


def test_a_correct_optimizer_passes() -> None:
    check_optimizer(lambda seed: Sampler(seed=seed))


@pytest.mark.parametrize(
    ("broken", "check", "message"),
    [
        (KeepsInactive, check_configs, "momentum is only active"),
        (LeavesTheTable, check_candidates, "is not a candidate"),
        (IgnoresTheSeed, check_reproducible, "the seed has no effect"),
        (NotReproducible, check_reproducible, "asked different things"),
        (SaidToBeDeterministic, check_reproducible, "the seed has an effect"),
        (GoesBack, check_monotone, "was asked for epoch 8 after epoch 9"),
        (ForgetsItsPast, check_resumes, "went on differently"),
        (ForgetsWhatRuns, check_resumes, "running got lost"),
        (SavesArrays, check_resumes, "not JSON serializable"),
        (GoesOnAfterItsEnd, check_finishes, "expected OptimizerError"),
        (BreaksOnFailure, check_failures, "cannot convert float NaN"),
        (OneAtATime, check_parallel, "not parallel"),
        (ForgetsToCheck, check_bound_once, "expected OptimizerError"),
        (SeedsNumpy, check_no_side_effects, "changed a global random state"),
        (SeedsPython, check_no_side_effects, "changed a global random state"),
        (WritesFiles, check_no_side_effects, "its files"),
    ],
)
def test_the_suite_catches(
    broken: type[Sampler],
    check: Callable[[Factory], None],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((AssertionError, TypeError, ValueError), match=message):
        check(lambda seed: broken(seed=seed))


def test_the_side_effect_check_has_none_itself() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    check_no_side_effects(lambda seed: Sampler(seed=seed))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002


def test_random_search_takes_every_candidate_once() -> None:
    space = TOY_SPACE.core()
    grid = tuple(space.grid())
    one = optimizer("random", seed=1)
    one.bind(Task(space, 27, 1.0, grid))
    suggestions = [one.ask() for _ in grid]
    assert one.ask() is None
    assert {s.config for s in suggestions if s} == set(grid)
    assert [s.config for s in suggestions if s] != list(grid)
    assert {s.epoch for s in suggestions if s} == {27}
