"""A study: one optimizer on one benchmark with one budget, on a simulated or a real clock."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, ParamSpec, TypeVar, get_args

from metaquery.errors import InvalidInput
from metaquery.real_time import RealTime
from metaquery.simulation import Event, Simulation
from metaquery.snap import Nearest
from metaquery.trajectory import Incumbent, Step, Stop, Trajectory
from metaquery.types import Budget, Charging, Outcome, Snap, Suggestion, make

if TYPE_CHECKING:
    from collections.abc import Callable

    from metaquery.benchmarks.base import Benchmark
    from metaquery.optimizers.base import Optimizer
    from metaquery.space import Config

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")

STALL_ASKS = 200  # consecutive asks that train nothing before a study counts as stalled: three DEHB rounds of 65


def run(
    optimizer: Optimizer,
    bench: Benchmark,
    budget: Budget,
    workers: int = 1,
    charging: Charging = "resume",
    snap: Snap | None = None,
    *,
    start_delay: float = 0.0,
    stop_delay: float = 0.0,
    charge_optimizer: bool = False,
    real_time: bool = False,
) -> Trajectory:
    """Let a new `optimizer` work on `bench` with `workers` at once until `budget` is spent.

    `resume` charges only the epochs beyond those that the same config had finished when an evaluation starts,
    `restart` charges all of them. Evaluations that would end beyond the budget do not count. The study also ends
    when the optimizer has finished, when every config of a table has been run to its end, or after STALL_ASKS
    asks in a row that train nothing. The optimizer sees validation losses only. An optimizer that `stops` is shown
    every epoch when it ends, and may end the evaluation there: what it trained until then is charged.

    An evaluation begins `start_delay` seconds after a worker took it, and the worker is free `stop_delay` seconds
    after its end. With `charge_optimizer`, the seconds that the optimizer really takes to answer pass on the clock
    too, which no seed makes the same twice; nothing is told or asked meanwhile.

    With `real_time` the clock is the wall's: each of `workers` threads waits for `bench`, which must take the time that
    its evaluations cost and resume by itself, as a live one does; delays and the optimizer's time are what they are.
    For the same costs both clocks give the same trajectory.

    On a table, `snap="nearest"` lets the optimizer ask for any config of the full space: the nearest of the table that
    stood in for none yet is evaluated in its place, and the distance is recorded. Without it such an ask is an error.
    """
    for name, delay in (("start_delay", start_delay), ("stop_delay", stop_delay)):
        if not (math.isfinite(delay) and delay >= 0):
            raise InvalidInput(f"{name} must be a number of seconds, at least 0, got {delay!r}")
    if real_time and (charging != "resume" or start_delay or stop_delay):
        raise InvalidInput("in real time an evaluation costs what it takes: leave charging and delays out")
    simulation: _Clock = RealTime(workers) if real_time else Simulation(workers, start_delay, stop_delay)
    try:
        study = _Study(optimizer, bench, budget, simulation, charging, snap, charge_optimizer)
        optimizer.bind(study.task)
        stop = study.run()
    finally:
        simulation.close()
    stamp = {
        "benchmark": bench.stamp,
        "optimizer": optimizer.stamp,
        "budget": asdict(budget),
        "clock": "real" if real_time else clock(bench),
        "optimizer_seconds": "charged as measured" if charge_optimizer or real_time else "not charged",
        "workers": workers,
        "charging": charging,
        "start_delay": start_delay,
        "stop_delay": stop_delay,
        "snap": snap,
        "stall_asks": STALL_ASKS,
        "versions": versions(),
    }
    return Trajectory(tuple(study.steps), tuple(study.incumbents), stop, study.ended, stamp)


def clock(bench: Benchmark) -> str:
    """What the simulated clock of a study on `bench` runs on, in words."""
    return "simulated" if bench.has_costs else "simulated, one second for every epoch, as the source has no costs"


def versions() -> dict[str, str]:
    """The versions that every result is stamped with."""
    import numpy as np

    from metaquery import __version__

    return {"medcurves": __version__, "numpy": np.__version__, "python": platform.python_version()}


@dataclass(slots=True)  # frozen would take twice as long to make
class _Stage:
    """An evaluation up to `epoch`, and what it costs from where it resumed."""

    epoch: int
    outcome: Outcome
    new_epochs: int
    cost_seconds: float


@dataclass(slots=True)  # frozen would take twice as long to make
class _Evaluation:
    suggestion: Suggestion
    config: Config
    distance: float
    epochs_before: int
    seconds_before: float
    stages: list[_Stage]  # those that were worked out


_Clock = Simulation[_Evaluation] | RealTime[_Evaluation]


class _Study:
    def __init__(
        self,
        optimizer: Optimizer,
        bench: Benchmark,
        budget: Budget,
        clock: _Clock,
        charging: Charging,
        snap: Snap | None,
        charge_optimizer: bool,
    ) -> None:
        if charging not in get_args(Charging):
            raise InvalidInput(f"charging must be {' or '.join(get_args(Charging))}, got {charging!r}")
        if snap is not None and snap not in get_args(Snap):
            raise InvalidInput(f"snap must be {' or '.join(get_args(Snap))} or left out, got {snap!r}")
        if budget.seconds is not None and not bench.has_costs:
            raise InvalidInput(
                f"{bench.dataset} has no costs in this corpus, so a budget in seconds means nothing: limit epochs or "
                "trials instead"
            )
        self.task = bench.task
        self._nearest: Nearest | None = None
        if snap is not None:
            if bench.configs is None:
                raise InvalidInput(f"snap is for tables: benchmark {bench.kind} evaluates any config, leave it out")
            self.task = replace(bench.task, space=bench.open_space, snapped=True)
            self._nearest = Nearest(bench.open_space, bench.configs)
        self.steps: list[Step] = []
        self.incumbents: list[Incumbent] = []
        self.ended = 0.0
        self._optimizer = optimizer
        self._bench = bench
        self._clock = clock
        self._n_configs = math.inf if bench.configs is None else len(bench.configs)
        self._seconds = math.inf if budget.seconds is None else budget.seconds
        self._epochs_limit = math.inf if budget.epochs is None else budget.epochs
        self._trials_limit = math.inf if budget.trials is None else budget.trials
        self._resume = charging == "resume"
        self._charge_optimizer = charge_optimizer
        self._ask = self._timed(optimizer.ask)
        self._tell = self._timed(optimizer.tell)
        self._report = self._timed(optimizer.report)
        self._trained: dict[str, tuple[int, float]] = {}  # epochs and seconds that had finished, by config_id
        self._complete: set[str] = set()
        self._epochs = 0
        self._idle = 0  # evaluations in a row that trained nothing

    def run(self) -> Stop:
        stop = self._loop()
        self.ended = self._seconds if stop is Stop.SECONDS else self._clock.now
        return stop

    def _loop(self) -> Stop:
        clock = self._clock
        closed = None  # why nothing more is asked; what is running still finishes
        while True:
            while closed is None and clock.free:
                suggestion = self._ask()
                if suggestion is None:
                    closed = Stop.FINISHED if self._optimizer.finished else None
                    break
                self._start(suggestion)
            if closed is not None and not clock.busy:
                return closed
            if not clock.wait(self._seconds):
                return Stop.SECONDS
            for event in clock.events():
                if not event.last and self._goes_on(event):
                    clock.go_on(event.run)
                    continue
                if self._epochs + event.run.job.stages[event.stage].new_epochs > self._epochs_limit:
                    return Stop.EPOCHS
                self._finish(event)
                if self._idle >= STALL_ASKS and closed is None:
                    closed = Stop.STALLED
                stop = self._limit_reached()
                if stop is not None:
                    return stop

    def _start(self, suggestion: Suggestion) -> None:
        config, distance = suggestion.config, 0.0
        if self._nearest is not None:
            config, distance = self._nearest(config)
        before = self._trained.get(config.config_id, (0, 0.0)) if self._resume else (0, 0.0)
        job = _Evaluation(suggestion, config, distance, *before, [])
        self._clock.start(job, self._work(job))

    def _work(self, job: _Evaluation) -> Iterator[tuple[float, bool]]:
        """The stages of an evaluation: one, or one for every epoch where the optimizer wants to see them."""
        asked = job.suggestion.epoch
        first = min(job.epochs_before + 1, asked) if self._optimizer.stops else asked
        for epoch in range(first, asked + 1):
            outcome = self._bench.evaluate(job.config, epoch)
            ended = outcome.epochs_run < epoch
            cost = max(outcome.observation.cost_seconds - job.seconds_before, 0.0)
            new_epochs = max(outcome.epochs_run - job.epochs_before, 0)
            job.stages.append(_Stage(asked if ended else epoch, outcome, new_epochs, cost))
            yield cost, ended or epoch == asked
            if ended:
                return

    def _goes_on(self, event: Event[_Evaluation]) -> bool:
        """Whether the optimizer lets an evaluation go on after `event`, which was not its last; else it is stopped."""
        stage = event.run.job.stages[event.stage]
        if self._report(event.run.job.suggestion, stage.epoch, stage.outcome.observation):
            return True
        self._clock.stop(event.run)
        return False

    def _finish(self, event: Event[_Evaluation]) -> None:
        job = event.run.job
        stage = job.stages[event.stage]
        config, (observation, test, ran) = job.config, stage.outcome
        value, seconds, status = observation
        known = self._trained.get(config.config_id)
        self._trained[config.config_id] = (
            (ran, seconds) if known is None else (max(known[0], ran), max(known[1], seconds))
        )
        if stage.epoch == self._bench.epochs or ran < stage.epoch:
            self._complete.add(config.config_id)
        self._epochs += stage.new_epochs
        self._idle = self._idle + 1 if stage.new_epochs == 0 and stage.cost_seconds == 0.0 else 0
        self._tell(job.suggestion, observation)
        step = make(
            Step,
            (
                len(self.steps),
                event.run.worker,
                event.run.start,
                event.seconds,
                config,
                stage.epoch,
                job.suggestion.epoch,
                stage.new_epochs,
                stage.cost_seconds,
                value,
                test,
                status,
                job.distance,
            ),
        )
        self.steps.append(step)
        if observation.ok and (not self.incumbents or value < self.incumbents[-1].value):
            self.incumbents.append(
                Incumbent(
                    order=step.order,
                    clock_seconds=step.finish_seconds,
                    epochs=self._epochs,
                    evaluations=len(self.steps),
                    config=config,
                    epoch=stage.epoch,
                    value=step.value,
                    test=step.test,
                )
            )

    def _limit_reached(self) -> Stop | None:
        if self._epochs >= self._epochs_limit:
            return Stop.EPOCHS
        if len(self.steps) >= self._trials_limit:
            return Stop.TRIALS
        if len(self._complete) >= self._n_configs:
            return Stop.EXHAUSTED
        return None

    def _timed(self, call: Callable[Asked, Answer]) -> Callable[Asked, Answer]:
        """`call`, where that is charged with the time that it takes passing on the clock."""
        if not self._charge_optimizer:
            return call

        def timed(*arguments: Asked.args, **named: Asked.kwargs) -> Answer:
            began = time.perf_counter()
            answer = call(*arguments, **named)
            self._clock.charge(time.perf_counter() - began)
            return answer

        return timed
