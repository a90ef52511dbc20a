"""The clock of a study: against a slow reference, delays, stop signals, the optimizer's own time, and real time."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_study import Trace, reference_trace

import metaquery.study
from metaquery.benchmarks.base import Benchmark
from metaquery.errors import InvalidInput, OptimizerError
from metaquery.metrics import metric
from metaquery.optimizers import optimizer
from metaquery.optimizers.base import Optimizer
from metaquery.space import Config, Hyperparameter, SearchSpace
from metaquery.study import run
from metaquery.trajectory import Stop, Trajectory
from metaquery.types import Budget, Curve, Observation, Outcome, Status, Suggestion

N = 12
SPACE = SearchSpace("numbers", (Hyperparameter("x", "ordinal", 0, choices=tuple(range(N))),))
CONFIGS = tuple(SPACE.config({"x": x}) for x in range(N))


class Random27(Benchmark):
    """Nine epochs of random losses and costs; some trials fail or stop early. Costs are from a few, so many tie."""

    kind = "made"

    def __init__(self, seed: int, costs: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)) -> None:
        super().__init__(
            dataset="made", space=SPACE, metric=metric("auc"), epochs=9, fold=0, seed=seed, source="by chance"
        )
        self.curves: dict[Config, Curve] = {}
        rng = np.random.default_rng(seed)
        ends = (Status.COMPLETED, Status.COMPLETED, Status.EARLY_STOPPED, Status.DIVERGED, Status.OUT_OF_MEMORY)
        for config in CONFIGS:
            status = ends[rng.integers(len(ends))]
            ran = 9 if status is Status.COMPLETED else 0 if status is Status.OUT_OF_MEMORY else int(rng.integers(1, 9))
            values = rng.random(ran)
            lost = 0.25 if status in (Status.DIVERGED, Status.OUT_OF_MEMORY) else 0.0
            self.curves[config] = Curve(values, values + 1, rng.choice(costs, size=ran), status, 9, lost)

    @property
    def configs(self) -> tuple[Config, ...]:
        return CONFIGS

    def _curve(self, config: Config) -> Curve:
        return self.curves[config]


def steady(seconds: float) -> Curve:
    """Nine equal epochs."""
    return Curve(np.full(9, 0.5), np.full(9, 0.5), np.full(9, seconds), Status.COMPLETED, 9)


class Stopping(Optimizer):
    """Asks for full training of one config after the other, twice, and stops at epochs that its seed chooses."""

    stops: ClassVar[bool] = True

    def _bind(self, task: Any) -> None:
        self.shown: list[tuple[Config, int, Observation]] = []
        self.told: list[Observation] = []
        self.left = [*CONFIGS, *CONFIGS]

    def _ask(self, token: int) -> tuple[Config, int] | None:
        return (self.left.pop(0), 1 + (3 * self.seed + 5 * token) % 9) if self.left else None

    def _watch(self, suggestion: Suggestion, epoch: int, observation: Observation) -> bool:
        self.shown.append((suggestion.config, epoch, observation))
        chance = np.random.default_rng([self.seed, int(suggestion.config["x"]), epoch])
        return bool(chance.random() < 0.8)

    def _tell(self, suggestion: Suggestion, observation: Observation, loss: float) -> None:
        self.told.append(observation)


def make(name: str, seed: int) -> Optimizer:
    return Stopping(seed) if name == "stopping" else optimizer(name, seed=seed)


def trace(trajectory: Trajectory) -> Trace:
    return [
        (s.worker, s.config.config_id, s.epoch, s.new_epochs, s.start_seconds, s.finish_seconds)
        for s in trajectory.steps
    ]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10_000),
    st.sampled_from(["stopping", "asha", "hyperband", "random"]),
    st.integers(1, 5),
    st.sampled_from(["resume", "restart"]),
    st.sampled_from([0.0, 0.5, 0.3]),
    st.sampled_from([0.0, 0.5, 0.7]),
    st.sampled_from([5.0, 37.5, 1e9]),
)
def test_the_events_are_those_of_a_plain_loop(
    seed: int, name: str, workers: int, charging: Any, start_delay: float, stop_delay: float, seconds: float
) -> None:
    bench = Random27(seed)
    delays = {"start_delay": start_delay, "stop_delay": stop_delay}
    fast = run(make(name, seed), bench, Budget(seconds=seconds), workers, charging, **delays)
    slow = reference_trace(make(name, seed), bench, seconds, workers, charging, **delays)
    assert trace(fast) == slow


def test_delays_by_hand() -> None:
    bench = Random27(0)
    bench.curves = dict.fromkeys(CONFIGS, steady(1.0))

    class Asks(Stopping):
        stops = False

        def _ask(self, token: int) -> tuple[Config, int] | None:
            return (CONFIGS[token], 2) if token < 3 else None

    found = run(Asks(), bench, Budget(seconds=100), 2, start_delay=0.5, stop_delay=0.25)
    assert [s[4:] for s in trace(found)] == [(0.0, 2.5), (0.0, 2.5), (2.75, 5.25)]
    assert [s.cost_seconds for s in found.steps] == [2.0, 2.0, 2.0]
    assert (found.stamp["start_delay"], found.stamp["stop_delay"]) == (0.5, 0.25)


def test_a_stopped_evaluation_is_charged_to_where_it_got_and_told_what_was_shown() -> None:
    bench = Random27(3, costs=(1.0,))
    made = Stopping(1)
    found = run(made, bench, Budget(seconds=1e6))
    stopped = [s for s in found.steps if s.epoch < s.asked_epoch]
    assert stopped
    for step in stopped:
        observation = bench.query(step.config, step.epoch)
        assert (step.config, step.epoch, observation) in made.shown
        assert repr(made.told[step.order]) == repr(observation)
        assert step.test == bench.curve(step.config).test[step.epoch - 1]
        assert step.finish_seconds - step.start_seconds == step.cost_seconds == step.new_epochs
    again = [epoch for config, epoch, _ in made.shown if config == CONFIGS[0]]
    assert len(again) == len(set(again))  # what was resumed is not shown again


def test_reports_are_part_of_the_state() -> None:
    bench = Random27(3, costs=(1.0,))
    made = Stopping(1)
    made.bind(bench.task)
    first, suggestion = made.ask(), made.ask()
    assert suggestion is not None
    assert suggestion.epoch > 1
    made.report(suggestion, 1, Observation(0.5, 1.0, Status.COMPLETED))
    other = Stopping(1)
    other.bind(bench.task)
    assert other.load(made.state()) == [first, suggestion]
    assert other.shown == made.shown
    with pytest.raises(OptimizerError, match="shown an epoch of suggestion 7, which is not running"):
        made.report(Suggestion(CONFIGS[0], 2, 7), 1, Observation(0.5, 1.0, Status.COMPLETED))


def test_the_optimizers_time_is_charged_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(metaquery.study.time, "perf_counter", lambda: float(next(ticks)))  # every call takes a second
    bench = Random27(0)
    bench.curves = dict.fromkeys(CONFIGS, steady(1.0))

    class Asks(Stopping):
        stops = False

        def _ask(self, token: int) -> tuple[Config, int] | None:
            return (CONFIGS[token], 4) if token < 3 else None

    charged = run(Asks(), bench, Budget(seconds=100), 2, charge_optimizer=True)
    # Asked from 0 to 1 and from 1 to 2; one ends at 5 and is told until 6, the other ends at 6 and is asked until 7.
    assert [s[4:] for s in trace(charged)] == [(1.0, 5.0), (2.0, 6.0), (7.0, 11.0)]
    assert charged.stamp["optimizer_seconds"] == "charged as measured"
    free = run(Asks(), bench, Budget(seconds=100), 2)
    assert [s[4:] for s in trace(free)] == [(0.0, 4.0), (0.0, 4.0), (4.0, 8.0)]
    assert free.stamp["optimizer_seconds"] == "not charged"
    short = run(Asks(), bench, Budget(seconds=5.5), 2, charge_optimizer=True)
    assert (len(short.steps), short.stop, short.clock_seconds) == (1, Stop.SECONDS, 5.5)


class Sleeping(Benchmark):
    """Takes the time that it costs, for the epochs that it has not trained yet, as a live benchmark does."""

    kind = "live"

    def __init__(self, source: Benchmark) -> None:
        super().__init__(
            dataset="made", space=SPACE, metric=source.metric, epochs=9, fold=0, seed=0, source="by sleeping"
        )
        self.inner = source
        self.trained: dict[Config, float] = {}
        self.threads: set[str] = set()

    @property
    def configs(self) -> tuple[Config, ...]:
        return CONFIGS

    def _evaluate(self, config: Config, epoch: int) -> Outcome:
        self.threads.add(threading.current_thread().name)
        found = self.inner.evaluate(config, epoch)
        time.sleep(max(found.observation.cost_seconds - self.trained.get(config, 0.0), 0.0))
        self.trained[config] = found.observation.cost_seconds
        return found

    def _curve(self, config: Config) -> Curve:
        raise AssertionError("a study must not ask a live benchmark for more than it trained")


def spaced(name: str) -> tuple[Random27, Trajectory]:
    """A benchmark whose simulated events on two workers are well apart, so that a busy machine keeps their order."""
    for seed in range(2_000):
        bench = Random27(seed, costs=(0.1, 0.17, 0.29))
        found = run(make(name, 0), bench, Budget(trials=6), 2)
        times = [s.finish_seconds for s in found.steps]
        if found.clock_seconds < 3.0 and np.diff(times).min() > 0.06:
            return bench, found
    raise AssertionError("none is")


@pytest.mark.parametrize("name", ["asha", "stopping"])
def test_real_time_gives_the_trajectory_of_simulated_time(name: str) -> None:
    bench, simulated = spaced(name)
    sleeping = Sleeping(bench)
    real = run(make(name, 0), sleeping, Budget(trials=6), 2, real_time=True)
    assert [s[:4] for s in trace(real)] == [s[:4] for s in trace(simulated)]
    assert repr([(s.value, s.test, s.cost_seconds, s.status) for s in real.steps]) == repr(
        [(s.value, s.test, s.cost_seconds, s.status) for s in simulated.steps]
    )
    for s, t in zip(real.steps, simulated.steps, strict=True):
        assert t.finish_seconds <= s.finish_seconds < t.finish_seconds + 0.5
    assert len(sleeping.threads) == 2
    assert (real.stamp["clock"], simulated.stamp["clock"]) == ("real", "simulated")


def test_real_time_ends_with_the_budget_and_with_errors() -> None:
    bench = Random27(0)
    bench.curves = dict.fromkeys(CONFIGS, steady(0.02))
    found = run(optimizer("random", seed=0), Sleeping(bench), Budget(seconds=0.1), 2, real_time=True)
    assert (found.steps, found.stop, found.clock_seconds) == ((), Stop.SECONDS, 0.1)

    class Broken(Sleeping):
        def _evaluate(self, config: Config, epoch: int) -> Outcome:
            raise InvalidInput("the device is gone")

    with pytest.raises(InvalidInput, match="the device is gone"):
        run(optimizer("random", seed=0), Broken(bench), Budget(trials=3), 2, real_time=True)
    for options in ({"charging": "restart"}, {"start_delay": 1.0}):
        with pytest.raises(InvalidInput, match="leave charging and delays out"):
            run(optimizer("random", seed=0), bench, Budget(trials=3), real_time=True, **options)
    with pytest.raises(InvalidInput, match="stop_delay must be a number of seconds, at least 0, got -1"):
        run(optimizer("random", seed=0), bench, Budget(trials=3), stop_delay=-1)
