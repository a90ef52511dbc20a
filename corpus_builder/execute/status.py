"""What a run has done so far, read from its shards."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from corpus_builder.execute.rundir import RunDirectory
from corpus_builder.plan import Unit
from metaquery.errors import InvalidData
from metaquery.types import Status

Cell = tuple[str, str]  # dataset, backbone


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Trials of a run by dataset and backbone, and the statuses and messages of those that did not complete."""

    planned: Counter[Cell] = field(default_factory=Counter)
    finished: Counter[Cell] = field(default_factory=Counter)
    failed: Counter[Cell] = field(default_factory=Counter)
    messages: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    in_work: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[dict[str, str | int]]:
        """One row per dataset and backbone."""
        return [
            {
                "dataset": cell[0],
                "backbone": cell[1],
                "planned": self.planned[cell],
                "finished": self.finished[cell],
                "not completed": self.failed[cell],
            }
            for cell in sorted(self.planned)
        ]

    @property
    def failures(self) -> list[str]:
        """One line for each status and message that trials ended with, the most frequent first."""
        return [f"{count} x {status}: {error}" for (status, error), count in self.messages.most_common()]


def run_status(run: RunDirectory) -> RunStatus:
    """Count what is planned and what has finished, also in units that are not finished, and say who works on what."""
    counted = RunStatus()
    leases = set(run.leases.names())
    for unit in run.plan.units:
        spec = unit.trials[0].spec
        cell = (spec.dataset, str(spec.config["backbone"]))
        ends = _ends(run, unit)
        counted.planned[cell] += len(unit.trials)
        for status, error in ends:
            counted.finished[cell] += 1
            if status != Status.COMPLETED:
                counted.failed[cell] += 1
                counted.messages[status, error] += 1
        if unit.unit_id in leases:
            holder = run.leases.holder(unit.unit_id) or "nobody any more: run the plan again"
            done = f"{len(ends)} of {len(unit.trials)} trials"
            counted.in_work.append(f"unit {unit.unit_id} ({', '.join(cell)}), {done}: {holder}")
    return counted


def _ends(run: RunDirectory, unit: Unit) -> list[tuple[str, str | None]]:
    """Status and message of the finished trials of `unit`; a damaged shard has none, as its trials are run again."""
    columns = ["status", "error"]
    try:
        rows = [run.read_shard(unit, columns)] if run.shard_path(unit).exists() else []
    except InvalidData:
        return []
    rows = rows or list(run.read_trials(unit, columns).values())
    return [(row["status"], row["error"]) for table in rows for row in table.to_pylist()]
