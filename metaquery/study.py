"""A study: one optimizer on one benchmark with one budget, on a simulated clock."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from metaquery.errors import InvalidInput
from metaquery.outputs import check_output, new_directory, write_json
from metaquery.simulation import Run, Simulation
from metaquery.snap import Nearest
from metaquery.types import Budget, Charging, Curve, Observation, Snap, Status, Suggestion

if TYPE_CHECKING:
    import pyarrow as pa

    from metaquery.benchmarks.base import Benchmark
    from metaquery.metrics import Metric
    from metaquery.optimizers.base import Optimizer
    from metaquery.space import Config

STALL_ASKS = 200  # consecutive asks that train nothing before a study counts as stalled: three DEHB rounds of 65
MARKER = "trajectory.json"
FILES = frozenset({MARKER, "evaluations.parquet", "incumbents.parquet"})


class Stop(StrEnum):
    """Why a study ended."""

    SECONDS = "out_of_seconds"
    EPOCHS = "out_of_epochs"
    TRIALS = "out_of_trials"
    FINISHED = "finished"  # the optimizer has nothing more to propose
    EXHAUSTED = "exhausted"  # every config of the table has been run to its end
    STALLED = "stalled"  # the optimizer asks for nothing new any more


@dataclass(frozen=True, slots=True)
class Step:
    """One finished evaluation, in the order of finishing; `value` and `test` are losses, NaN where it failed.

    `distance` is how far `config` is from what the optimizer asked for (Gower's, summed over hyperparameters): 0 but
    where the nearest config of a table stood in.
    """

    order: int
    worker: int
    start_seconds: float
    finish_seconds: float
    config: Config
    epoch: int
    new_epochs: int
    cost_seconds: float
    value: float
    test: float
    status: Status
    distance: float


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The best validation loss from `clock_seconds` on, its test loss, and what had been spent until then."""

    order: int
    clock_seconds: float
    epochs: int
    evaluations: int
    config: Config
    epoch: int
    value: float
    test: float


@dataclass(frozen=True, slots=True)
class Trajectory:
    """All that happened in a study, and what it was: `stamp` names everything the numbers depend on.

    `clock_seconds` is the simulated time at which the study ended.
    """

    steps: tuple[Step, ...]
    incumbents: tuple[Incumbent, ...]
    stop: Stop
    clock_seconds: float
    stamp: Mapping[str, Any]

    @property
    def epochs(self) -> int:
        """Newly trained epochs of all finished evaluations."""
        return sum(step.new_epochs for step in self.steps)

    def to_arrow(self) -> pa.Table:
        """One row per finished evaluation."""
        return _table(self.steps, Step)

    def incumbents_to_arrow(self) -> pa.Table:
        """One row per change of the incumbent."""
        return _table(self.incumbents, Incumbent)

    def to_json(self) -> dict[str, Any]:
        """The stamp, the outcome, and the configs that were incumbent; equal for equal studies, bit by bit."""
        return {
            **self.stamp,
            "stop": self.stop,
            "clock_seconds": self.clock_seconds,
            "evaluations": len(self.steps),
            "epochs": self.epochs,
            "incumbent_configs": {item.config.config_id: dict(item.config) for item in self.incumbents},
        }

    def describe(self, metric: Metric) -> str:
        """How it went, in words; values in the direction of `metric`, which must be the benchmark's."""
        lines = [
            f"{self.stamp['optimizer']['name']} on {self.stamp['benchmark']['dataset']}: {len(self.steps)} "
            f"evaluations, {self.epochs} new epochs, {self.clock_seconds:.1f} simulated seconds, ended "
            f"{self.stop.replace('_', ' ')}"
        ]
        if self.incumbents:
            best = self.incumbents[-1]
            lines += [
                f"best validation {metric.name} {metric.from_loss(best.value):.4f} after {best.clock_seconds:.1f} s "
                f"({_test_in_words(metric, best.test)})",
                f"{best.config} at epoch {best.epoch}",
            ]
        return "\n".join(lines)

    @staticmethod
    def check_output(directory: str | Path) -> None:
        """Refuse a directory that `write` could not write to."""
        check_output(Path(directory), marker=MARKER, entries=FILES)

    def write(self, directory: str | Path) -> None:
        """Write both tables as Parquet and the rest as JSON; an earlier trajectory there is replaced."""
        import pyarrow.parquet as pq

        with new_directory(Path(directory), marker=MARKER, entries=FILES) as new:
            pq.write_table(self.to_arrow(), new / "evaluations.parquet")
            pq.write_table(self.incumbents_to_arrow(), new / "incumbents.parquet")
            write_json(new / MARKER, self.to_json())


def run(
    optimizer: Optimizer,
    bench: Benchmark,
    budget: Budget,
    workers: int = 1,
    charging: Charging = "resume",
    snap: Snap | None = None,
) -> Trajectory:
    """Let a new `optimizer` work on `bench` with `workers` at once until `budget` is spent.

    `resume` charges only the epochs beyond those that the same config had finished when an evaluation starts,
    `restart` charges all of them. Evaluations that would end beyond the budget do not count. The study also ends
    when the optimizer has finished, when every config of a table has been run to its end, or after STALL_ASKS
    asks in a row that train nothing. The optimizer sees validation losses only, and its own time is not charged.

    On a table, `snap="nearest"` lets the optimizer ask for any config of the full space: the nearest of the table that
    stood in for none yet is evaluated in its place, and the distance is recorded. Without it such an ask is an error.
    """
    study = _Study(optimizer, bench, budget, workers, charging, snap)
    optimizer.bind(study.task)
    stop = study.run()
    stamp = {
        "benchmark": bench.stamp,
        "optimizer": optimizer.stamp,
        "budget": asdict(budget),
        "clock": clock(bench),
        "optimizer_seconds": "not charged",
        "workers": workers,
        "charging": charging,
        "snap": snap,
        "stall_asks": STALL_ASKS,
        "versions": versions(),
    }
    return Trajectory(tuple(study.steps), tuple(study.incumbents), stop, study.clock, stamp)


def clock(bench: Benchmark) -> str:
    """What the clock of a study on `bench` runs on, in words."""
    return "simulated" if bench.has_costs else "simulated, one second for every epoch, as the source has no costs"


def versions() -> dict[str, str]:
    """The versions that every result is stamped with."""
    import numpy as np

    from metaquery import __version__

    return {"medcurves": __version__, "numpy": np.__version__, "python": platform.python_version()}


@dataclass(frozen=True, slots=True)
class _Evaluation:
    suggestion: Suggestion
    config: Config
    distance: float
    observation: Observation
    test: float
    epochs_run: int
    new_epochs: int
    cost_seconds: float


class _Study:
    def __init__(
        self,
        optimizer: Optimizer,
        bench: Benchmark,
        budget: Budget,
        workers: int,
        charging: Charging,
        snap: Snap | None,
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
        self._optimizer = optimizer
        self._bench = bench
        self._n_configs = math.inf if bench.configs is None else len(bench.configs)
        self._seconds = math.inf if budget.seconds is None else budget.seconds
        self._epochs_limit = math.inf if budget.epochs is None else budget.epochs
        self._trials_limit = math.inf if budget.trials is None else budget.trials
        self._resume = charging == "resume"
        self._simulation: Simulation[_Evaluation] = Simulation(workers)
        self._curves: dict[Config, Curve] = {}
        self._trained: dict[Config, tuple[int, float]] = {}  # epochs and seconds that had finished, by config
        self._complete: set[Config] = set()
        self._epochs = 0
        self._idle_asks = 0

    @property
    def clock(self) -> float:
        return self._simulation.now

    def run(self) -> Stop:
        closed = None  # why nothing more is asked; what is running still finishes
        while True:
            while closed is None and self._simulation.free:
                suggestion = self._optimizer.ask()
                if suggestion is None:
                    closed = Stop.FINISHED if self._optimizer.finished else None
                    break
                self._start(suggestion)
                if self._idle_asks >= STALL_ASKS:
                    closed = Stop.STALLED
            upcoming = self._simulation.next_finish
            if closed is not None and upcoming == math.inf:
                return closed
            if upcoming > self._seconds:
                self._simulation.now = self._seconds
                return Stop.SECONDS
            for done in self._simulation.advance():
                if self._epochs + done.job.new_epochs > self._epochs_limit:
                    return Stop.EPOCHS
                self._finish(done)
                stop = self._limit_reached()
                if stop is not None:
                    return stop

    def _start(self, suggestion: Suggestion) -> None:
        config, epoch, distance = suggestion.config, suggestion.epoch, 0.0
        if self._nearest is not None:
            config, distance = self._nearest(config)
        observation = self._bench.query(config, epoch)
        if config not in self._curves:
            self._curves[config] = self._bench.curve(config)
        curve = self._curves[config]
        last = curve.stands(epoch)
        test = math.nan if last is None else float(curve.test[last])
        epochs_run = min(epoch, curve.epochs_run)
        epochs_before, seconds_before = self._trained.get(config, (0, 0.0)) if self._resume else (0, 0.0)
        new_epochs = max(epochs_run - epochs_before, 0)
        cost = max(observation.cost_seconds - seconds_before, 0.0)
        self._idle_asks = self._idle_asks + 1 if new_epochs == 0 and cost == 0.0 else 0
        job = _Evaluation(suggestion, config, distance, observation, test, epochs_run, new_epochs, cost)
        self._simulation.start(job, cost)

    def _finish(self, run: Run[_Evaluation]) -> None:
        job = run.job
        config, epoch, observation = job.config, job.suggestion.epoch, job.observation
        epochs_before, seconds_before = self._trained.get(config, (0, 0.0))
        self._trained[config] = max(epochs_before, job.epochs_run), max(seconds_before, observation.cost_seconds)
        if epoch == self._bench.epochs or job.epochs_run < epoch:
            self._complete.add(config)
        self._epochs += job.new_epochs
        self._optimizer.tell(job.suggestion, observation)
        step = Step(
            order=len(self.steps),
            worker=run.worker,
            start_seconds=run.start,
            finish_seconds=run.finish,
            config=config,
            epoch=epoch,
            new_epochs=job.new_epochs,
            cost_seconds=job.cost_seconds,
            value=observation.value,
            test=job.test,
            status=observation.status,
            distance=job.distance,
        )
        self.steps.append(step)
        if observation.ok and (not self.incumbents or step.value < self.incumbents[-1].value):
            self.incumbents.append(
                Incumbent(
                    order=step.order,
                    clock_seconds=step.finish_seconds,
                    epochs=self._epochs,
                    evaluations=len(self.steps),
                    config=config,
                    epoch=epoch,
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


def _test_in_words(metric: Metric, loss: float) -> str:
    return "no test value" if math.isnan(loss) else f"test {metric.from_loss(loss):.4f}"


def _table(records: Sequence[Step | Incumbent], kind: type[Step | Incumbent]) -> pa.Table:
    """The records as an Arrow table, a Config as its `config_id`."""
    import pyarrow as pa

    types = {"int": pa.int64(), "float": pa.float64(), "Config": pa.string(), "Status": pa.string()}
    columns, schema = [], []
    for field in fields(kind):
        values = [getattr(record, field.name) for record in records]
        name = field.name
        if field.type == "Config":
            name, values = "config_id", [config.config_id for config in values]
        columns.append(pa.array(values, types[str(field.type)]))
        schema.append(pa.field(name, types[str(field.type)], nullable=False))
    return pa.table(columns, schema=pa.schema(schema))
