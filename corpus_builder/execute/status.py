"""What a run has done so far, read from its shards."""

from __future__ import annotations

from collections import Counter
from typing import Any

from corpus_builder.execute.rundir import RunDirectory
from corpus_builder.plan import Unit
from metaquery.errors import InvalidData
from metaquery.types import Status


def progress_rows(run: RunDirectory) -> list[dict[str, Any]]:
    """Planned, finished and failed trials of every dataset and backbone."""
    planned: Counter[tuple[str, str]] = Counter()
    finished: Counter[tuple[str, str]] = Counter()
    failed: Counter[tuple[str, str]] = Counter()
    for unit in run.plan.units:
        spec = unit.trials[0].spec
        cell = (spec.dataset, str(spec.config["backbone"]))
        planned[cell] += len(unit.trials)
        statuses = _statuses(run, unit)
        finished[cell] += len(statuses)
        failed[cell] += sum(status != Status.COMPLETED for status, _ in statuses)
    return [
        {
            "dataset": d,
            "backbone": b,
            "planned": planned[d, b],
            "finished": finished[d, b],
            "not completed": failed[d, b],
        }
        for d, b in sorted(planned)
    ]


def failures(run: RunDirectory) -> list[str]:
    """One line for each status and message that trials ended with, the most frequent first."""
    counts = Counter(
        (status, error)
        for unit in run.plan.units
        for status, error in _statuses(run, unit)
        if status != Status.COMPLETED
    )
    return [f"{count} x {status}: {error}" for (status, error), count in counts.most_common()]


def _statuses(run: RunDirectory, unit: Unit) -> list[tuple[str, str | None]]:
    if not run.shard_path(unit).exists():
        return []
    try:
        shard = run.read_shard(unit)
    except InvalidData:
        return []  # the next run sets it aside and does it again
    return list(zip(shard["status"].to_pylist(), shard["error"].to_pylist(), strict=True))
