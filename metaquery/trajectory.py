"""What a study leaves behind: its steps, its incumbents, and the stamp of everything the numbers depend on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metaquery.outputs import check_output, new_directory, write_json
from metaquery.types import Status

if TYPE_CHECKING:
    import pyarrow as pa

    from metaquery.metrics import Metric
    from metaquery.space import Config

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


class Step(NamedTuple):  # as immutable as a frozen dataclass, and made five times as fast
    """One finished evaluation, in the order of finishing; `value` and `test` are losses, NaN where it failed.

    `distance` is how far `config` is from what the optimizer asked for (Gower's, summed over hyperparameters): 0 but
    where the nearest config of a table stood in. `epoch` is the one that was reached, before `asked_epoch` where the
    optimizer stopped the evaluation.
    """

    order: int
    worker: int
    start_seconds: float
    finish_seconds: float
    config: Config
    epoch: int
    asked_epoch: int
    new_epochs: int
    cost_seconds: float
    value: float
    test: float
    status: Status
    distance: float


class Incumbent(NamedTuple):
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

    `clock_seconds` is the time on the study's clock at which it ended.
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
            f"evaluations, {self.epochs} new epochs, {self.clock_seconds:.1f} seconds ({self.stamp['clock']}), ended "
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


def _test_in_words(metric: Metric, loss: float) -> str:
    return "no test value" if math.isnan(loss) else f"test {metric.from_loss(loss):.4f}"


def _table(records: Sequence[Step | Incumbent], kind: type[Step | Incumbent]) -> pa.Table:
    """The records as an Arrow table, a Config as its `config_id`."""
    import pyarrow as pa

    types = {"int": pa.int64(), "float": pa.float64(), "Config": pa.string(), "Status": pa.string()}
    columns, schema = [], []
    for name, annotation in kind.__annotations__.items():
        values, stored = [getattr(record, name) for record in records], types[annotation.__forward_arg__]
        is_config = annotation.__forward_arg__ == "Config"
        columns.append(pa.array([value.config_id for value in values] if is_config else values, stored))
        schema.append(pa.field("config_id" if is_config else name, stored, nullable=False))
    return pa.table(columns, schema=pa.schema(schema))
