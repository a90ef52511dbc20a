"""The conformance suite for optimizers, and a benchmark that needs no corpus.

A new optimizer is tested by `check_optimizer(lambda seed: MyOptimizer(seed=seed))`, or check by check through
`OPTIMIZER_CHECKS`; one that learns from other datasets is made with `history=toy_history()`. A check raises
AssertionError with what was broken.
"""

# ruff: noqa: NPY002  (a check must look at the legacy global generator to see that it is left alone)

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from metaquery.benchmarks.base import Benchmark
from metaquery.errors import OptimizerError
from metaquery.metrics import metric
from metaquery.optimizers.base import Optimizer
from metaquery.optimizers.history import DatasetHistory, History
from metaquery.space import Condition, Config, Hyperparameter, SearchSpace
from metaquery.study import run
from metaquery.types import Budget, Curve, Observation, Status, Suggestion, Task

Factory = Callable[[int], Optimizer]

TOY_SPACE = SearchSpace(
    "toy",
    (
        Hyperparameter("backbone", "categorical", "small", choices=("small", "large"), grid=("small", "large")),
        Hyperparameter("optimizer", "categorical", "adam", choices=("sgd", "adam"), grid=("sgd", "adam")),
        Hyperparameter("momentum", "float", 0.9, low=0.5, high=0.99, condition=Condition("optimizer", ("sgd",))),
        Hyperparameter("learning_rate", "float", 1e-3, low=1e-5, high=1e-1, log=True, grid=(1e-4, 1e-3, 1e-2)),
        Hyperparameter("warmup", "integer", 0, low=0, high=5),
        Hyperparameter("batch", "ordinal", 16, choices=(8, 16, 32)),
        Hyperparameter("head", "categorical", "linear", choices=("linear",)),
        Hyperparameter("width", "integer", 64, low=16, high=256, log=True, condition=Condition("head", ("linear",))),
    ),
)


class SyntheticBenchmark(Benchmark):
    """Learning curves that follow from a config's content: exponential decay to a floor, at its own cost.

    `configs` makes it a table. A share `failing` of the configs diverges after some epochs. `test` losses lie
    slightly above the validation losses.
    """

    kind: ClassVar[str] = "synthetic"

    def __init__(
        self,
        *,
        dataset: str = "toy",
        space: SearchSpace = TOY_SPACE,
        configs: tuple[Config, ...] | None = None,
        epochs: int = 27,
        failing: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(
            dataset=dataset, space=space, metric=metric("auc"), epochs=epochs, fold=0, seed=seed, source="synthetic"
        )
        self._configs = configs
        self._failing = failing

    @property
    def configs(self) -> tuple[Config, ...] | None:
        """The configs given, or None."""
        return self._configs

    def _curve(self, config: Config) -> Curve:
        entropy = [self.seed, int(config.config_id, 16), *self.dataset.encode()]
        rng = np.random.default_rng(entropy)
        fails = rng.random() < self._failing
        n_epochs = int(rng.integers(0, self.epochs)) if fails else self.epochs
        floor, start, rate = rng.uniform(0.05, 0.3), rng.uniform(0.4, 0.5), rng.uniform(0.05, 0.5)
        epoch = np.arange(1, n_epochs + 1)
        value = floor + (start - floor) * np.exp(-rate * epoch)
        return Curve(
            value=value,
            test=value + 0.01 * rng.random(),
            seconds=np.full(n_epochs, rng.uniform(1.0, 4.0)),
            status=Status.DIVERGED if fails else Status.COMPLETED,
            epochs_planned=self.epochs,
            failure_seconds=0.5 if fails else 0.0,
        )


def toy_history() -> History:
    """Three training datasets on the grid of `TOY_SPACE`, one of them with the meta-features of the target."""
    grid = tuple(TOY_SPACE.grid())
    training = []
    for number, name in enumerate(("first", "second", "third")):
        bench = SyntheticBenchmark(dataset=name, seed=number)
        losses, seconds = (np.full((len(grid), bench.epochs), np.nan) for _ in range(2))
        for row, curve in enumerate(map(bench.curve, grid)):
            losses[row, : curve.epochs_run] = curve.value
            seconds[row, : curve.epochs_run] = curve.seconds
        features = {"n_train": 100.0 * (number + 1), "n_classes": float(2 + number % 2)}
        training.append(DatasetHistory(name, name, features, grid, losses, seconds))
    return History(tuple(training), target=training[1].metafeatures, target_family="toy")


def check_optimizer(factory: Factory) -> None:
    """Run every check on optimizers made by `factory(seed)`; AssertionError says what was broken."""
    for check in OPTIMIZER_CHECKS:
        check(factory)


def check_configs(factory: Factory) -> None:
    """Every config is one of the space, active hyperparameters only, at an epoch that exists."""
    for epochs in (9, 27):
        task = replace(_open_task(), max_epochs=epochs)
        for suggestion in _asks(factory(0), task, 120):
            config = suggestion.config
            assert isinstance(config, Config), f"expected a Config, got {config!r}"
            assert task.space.config(config) == config, f"{config!r} is not a config of the space"
            assert task.space.complete(config) == config, f"{config!r} holds inactive hyperparameters"
            assert isinstance(suggestion.epoch, int), f"epoch must be an int, got {suggestion.epoch!r}"
            assert 1 <= suggestion.epoch <= epochs, f"epoch {suggestion.epoch} is not from 1 to {epochs}"


def check_candidates(factory: Factory) -> None:
    """Where only some configs can be evaluated, only those are asked for: the whole grid, or a part of it."""
    grid = TOY_SPACE.core().grid()
    for candidates in (tuple(grid), tuple(grid[1::3])):
        task = replace(_open_task(), space=TOY_SPACE.core(), candidates=candidates)
        for suggestion in _asks(factory(0), task, 120):
            assert suggestion.config in candidates, f"{suggestion.config!r} is not a candidate"


def check_monotone(factory: Factory) -> None:
    """No config is ever asked for fewer epochs than before, with several running at once, on a table or without."""
    for task in (_open_task(), _table_task()):
        highest: dict[Config, int] = {}
        for suggestion in _asks(factory(2), task, 120, running=4):
            config, epoch = suggestion.config, suggestion.epoch
            before = highest.get(config, 0)
            assert epoch >= before, f"{config!r} was asked for epoch {epoch} after epoch {before}"
            highest[config] = epoch


def check_reproducible(factory: Factory) -> None:
    """The same seed asks the same; another seed asks something else, unless the class is said to be deterministic."""
    asked = [[(s.config, s.epoch) for s in _asks(factory(seed), _open_task(), 60)] for seed in (3, 3, 4)]
    assert asked[0] == asked[1], "two runs with the same seed asked different things"
    if factory(0).deterministic:
        assert asked[0] == asked[2], "it is said to be deterministic, and the seed has an effect"
    else:
        assert asked[0] != asked[2], "the seed has no effect"


def check_resumes(factory: Factory) -> None:
    """Saved as JSON and loaded into a new one at any point, it goes on as if it had never stopped."""
    for task in (_open_task(), _table_task()):
        for after in (1, 25):
            one, again = factory(6), factory(6)
            running: list[Suggestion] = []
            _asks(one, task, after, running=3, left=running)
            state = json.loads(json.dumps(one.state(), allow_nan=False))
            again.bind(task)
            assert again.load(state) == running, "the suggestions that were running got lost"
            futures = [_go_on(each, 25, 3, _loss, list(running)) for each in (one, again)]
            assert futures[0] == futures[1], f"resumed after {after} asks it went on differently"


def check_failures(factory: Factory) -> None:
    """Evaluations that all fail neither raise nor stop it from asking, nor lead to illegal configs."""
    task = _open_task()
    for suggestion in _asks(factory(0), task, 60, value=lambda _: math.nan):
        assert task.space.config(suggestion.config) == suggestion.config


def check_parallel(factory: Factory) -> None:
    """With 1 and with 8 evaluations running at once, it goes on asking and takes the answers in any order."""
    for workers in (1, 8):
        bench = SyntheticBenchmark()
        trajectory = run(factory(0), bench, Budget(epochs=400), workers=workers)
        assert trajectory.steps, f"nothing was evaluated with {workers} workers"
        busy = max(
            sum(o.start_seconds <= s.start_seconds < o.finish_seconds for o in trajectory.steps)
            for s in trajectory.steps
        )
        assert busy <= workers, f"{busy} evaluations ran at once on {workers} workers"


def check_bound_once(factory: Factory) -> None:
    """It refuses to be used unbound, to be bound twice, and to be told twice or about what it never asked."""
    optimizer, task = factory(0), _open_task()
    _refuses(OptimizerError, optimizer.ask)
    optimizer.bind(task)
    _refuses(OptimizerError, lambda: optimizer.bind(task))
    suggestion = optimizer.ask()
    assert suggestion is not None, "the first ask must propose something"
    observation = Observation(0.5, 1.0, Status.COMPLETED)
    optimizer.tell(suggestion, observation)
    _refuses(OptimizerError, lambda: optimizer.tell(suggestion, observation))
    _refuses(OptimizerError, lambda: optimizer.tell(suggestion._replace(token=suggestion.token + 99), observation))


def check_no_side_effects(factory: Factory) -> None:
    """Global random states, the working directory and its files stay as they are."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        np.random.seed(123)
        random.seed(123)
        np.random.random()  # so that seeding once more with any number would show
        random.random()
        before = _surroundings()
        _asks(factory(5), _open_task(), 60)
        assert _surroundings() == before, "it changed a global random state, the working directory or its files"
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def check_finishes(factory: Factory) -> None:
    """On a small table a study comes to an end by itself, with every evaluation on the table."""
    task = _table_task()
    bench = SyntheticBenchmark(space=task.space, configs=task.candidates)
    optimizer = factory(1)
    trajectory = run(optimizer, bench, Budget(seconds=1e9))
    assert {step.config for step in trajectory.steps} <= set(task.candidates or ()), "it left the table"
    if optimizer.finished:
        _refuses(OptimizerError, optimizer.ask)


OPTIMIZER_CHECKS: tuple[Callable[[Factory], None], ...] = (
    check_configs,
    check_candidates,
    check_monotone,
    check_reproducible,
    check_resumes,
    check_failures,
    check_parallel,
    check_bound_once,
    check_no_side_effects,
    check_finishes,
)


def _open_task() -> Task:
    return Task(TOY_SPACE, max_epochs=27, worst_loss=1.0)


def _table_task() -> Task:
    return replace(_open_task(), space=TOY_SPACE.core(), candidates=tuple(TOY_SPACE.core().grid()))


def _asks(
    optimizer: Optimizer,
    task: Task,
    n: int,
    value: Callable[[Suggestion], float] | None = None,
    running: int = 1,
    left: list[Suggestion] | None = None,
) -> list[Suggestion]:
    """Up to `n` suggestions, each told `value(suggestion)` (by default a function of the config, sometimes NaN).

    Up to `running` are out at once; those that were not told in the end are put into `left`.
    """
    optimizer.bind(task)
    suggestions = _go_on(optimizer, n, running, value or _loss, [] if left is None else left)
    assert suggestions, "it proposed nothing at all"
    return suggestions


def _go_on(
    optimizer: Optimizer, n: int, running: int, value: Callable[[Suggestion], float], out: list[Suggestion]
) -> list[Suggestion]:
    """Ask `n` more times while `out` holds those that were asked but not told; the one in its middle is told next."""
    suggestions: list[Suggestion] = []
    while len(suggestions) < n and not optimizer.finished:
        suggestion = optimizer.ask()
        if suggestion is not None:
            suggestions.append(suggestion)
            out.append(suggestion)
        if out and (suggestion is None or len(out) >= running):
            done = out.pop(len(out) // 2)
            loss = value(done)
            status = Status.COMPLETED if math.isfinite(loss) else Status.FAILED
            optimizer.tell(done, Observation(loss, float(done.epoch), status))
    return suggestions


def _loss(suggestion: Suggestion) -> float:
    position = int(suggestion.config.config_id[:4], 16) / 0xFFFF
    return math.nan if position < 0.1 else position


def _refuses(error: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except error:
        return
    raise AssertionError(f"expected {error.__name__}")


def _surroundings() -> tuple[object, ...]:
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    key = numpy_state["state"]
    return random.getstate(), key["key"].tobytes(), key["pos"], os.getcwd(), sorted(os.listdir())
