"""The boundary to samplers of other packages: tables, known outcomes, failures and global state."""

# ruff: noqa: NPY002  (the legacy global generator is what is tested)

from __future__ import annotations

import logging
import random
from typing import Any

import numpy as np
import pytest

from metaquery.optimizers._globals import OwnGenerators, quiet
from metaquery.optimizers._wrapped import Climbing, Wrapped
from metaquery.space import Config, Hyperparameter, SearchSpace
from metaquery.types import Observation, Status, Suggestion, Task

SPACE = SearchSpace("line", (Hyperparameter("x", "integer", 0, low=0, high=9),))
X = [SPACE.config({"x": x}) for x in range(10)]
TASK = Task(SPACE, max_epochs=9, worst_loss=7.0)


class Scripted(Wrapped):
    """Proposes what it is told to, and keeps what it was told."""

    script: list[tuple[int, int]]
    told: list[tuple[int, float, float]]

    def _bind(self, task: Task) -> None:
        self.told = []

    def _propose(self) -> tuple[Any, Config, int] | None:
        if not self.script:
            return None
        x, epoch = self.script.pop(0)
        return x, X[x], epoch

    def _report(self, job: Any, epoch: int, loss: float, seconds: float) -> None:
        self.told.append((job, loss, seconds))


def scripted(script: list[tuple[int, int]], task: Task = TASK) -> Scripted:
    one = Scripted()
    one.script = script
    one.bind(task)
    return one


def ask(one: Wrapped) -> tuple[Suggestion, int, int]:
    suggestion = one.ask()
    assert suggestion is not None
    return suggestion, int(suggestion.config["x"]), suggestion.epoch


def tell(one: Wrapped, suggestion: Suggestion, loss: float) -> None:
    one.tell(suggestion, Observation(loss, 2.0, Status.COMPLETED if loss < 5 else Status.FAILED))


def test_known_outcomes_are_answered_from_memory() -> None:
    one = scripted([(3, 3), (3, 9), (3, 3), (3, 1), (3, 9), (4, 1)])
    for loss in (0.3, 0.2):
        tell(one, ask(one)[0], loss)
    assert ask(one)[1:] == (4, 1)
    # at epoch 3 its own loss, at epoch 1 the one at 3, the lowest known from there on; none of them costs anything
    assert one.told == [(3, 0.3, 2.0), (3, 0.2, 2.0), (3, 0.3, 0.0), (3, 0.3, 0.0), (3, 0.2, 0.0)]


def test_a_config_that_is_running_is_never_asked_for_fewer_epochs() -> None:
    one = scripted([(3, 9), (3, 1)])
    first, second = ask(one), ask(one)
    assert (first[1:], second[1:]) == ((3, 9), (3, 9))
    tell(one, second[0], 0.5)
    tell(one, first[0], 0.5)
    assert one.told == [(3, 0.5, 2.0), (3, 0.5, 2.0)]


def test_a_failed_config_stays_failed() -> None:
    one = scripted([(3, 3), (3, 9), (3, 1), (4, 1)])
    tell(one, ask(one)[0], float("nan"))
    assert ask(one)[1:] == (4, 1)
    assert one.told == [(3, 7.0, 2.0), (3, 7.0, 0.0), (3, 7.0, 0.0)]


def test_the_nearest_of_a_table_stands_in_unless_the_study_sees_to_that() -> None:
    table = Task(SPACE, 9, 7.0, (X[2], X[8]))
    assert ask(scripted([(3, 1)], table))[1] == 2
    assert ask(scripted([(3, 1)], Task(SPACE, 9, 7.0, (X[2], X[8]), snapped=True)))[1] == 3


def test_nothing_but_known_proposals_is_the_end() -> None:
    one = scripted([(3, 9)] * 1000)
    tell(one, ask(one)[0], 0.1)
    assert one.ask() is None
    assert one.finished
    assert len(one.script) == 1000 - 201


class Climber(Climbing):
    """Trials 0, 1, 2 ..., of which the odd ones stop at the second rung."""

    log: list[tuple[str, int, int, float]]

    def _bind(self, task: Task) -> None:
        self.log = []
        self.begun = 0

    def _begin(self) -> tuple[Any, Config] | None:
        self.begun += 1
        return (self.begun - 1, X[self.begun - 1]) if self.begun <= 3 else None

    def _goes_on(self, trial: Any, level: int, loss: float) -> bool:
        self.log.append(("rung", trial, level, loss))
        return not (trial % 2 and level == 1)

    def _end(self, trial: Any, level: int, loss: float) -> None:
        self.log.append(("end", trial, level, loss))


def test_trials_climb_until_they_are_stopped_and_those_that_wait_go_first() -> None:
    one = Climber()
    one.bind(TASK)
    seen = []
    while not one.finished:
        suggestion = one.ask()
        if suggestion is not None:
            seen.append((int(suggestion.config["x"]), suggestion.epoch))
            tell(one, suggestion, 0.1 * suggestion.epoch)
    assert seen == [(0, 1), (0, 3), (0, 9), (1, 1), (1, 3), (2, 1), (2, 3), (2, 9)]
    kinds = [entry[:3] for entry in one.log]
    assert kinds[:5] == [("rung", 0, 0), ("rung", 0, 1), ("end", 0, 2), ("rung", 1, 0), ("rung", 1, 1)]
    assert one.log[2][3] == pytest.approx(0.9)


def test_global_generators_are_lent_and_go_on() -> None:
    own = OwnGenerators(3)
    random.seed(1)
    np.random.seed(1)
    expected = random.Random(1).random(), np.random.RandomState(1).random()
    with own():
        first = random.random(), np.random.random()
    with own():
        second = random.random(), np.random.random()
    assert (random.random(), np.random.random()) == expected
    again = OwnGenerators(3)
    with again():
        assert [(random.random(), np.random.random()) for _ in range(2)] == [first, second]


def test_loggers_are_quiet_only_inside(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("some.package")
    with quiet("some"):
        logger.warning("hidden")
        logger.error("wrong")
    logger.warning("shown")
    assert caplog.messages == ["wrong", "shown"]
