"""One task, as any process does it under a lease: a unit of trials, or the description of a dataset and fold."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from corpus_builder.execute.description import describe
from corpus_builder.execute.leases import BEAT_SECONDS, Lease, LeaseLost
from corpus_builder.execute.rundir import RunDirectory
from corpus_builder.execute.work import Place, run_unit, versions
from corpus_builder.metafeatures import Measurement
from corpus_builder.plan import Plan, Unit
from corpus_builder.study import Study
from corpus_builder.train.records import TrialResult, TrialSpec
from metaquery.errors import EXIT_INTERRUPTED

RESUME = "run the same command again to resume"
Report = Callable[[str, str, int], None]  # is told the id, the status and the number of epochs of a trial that ended


class End(Enum):
    """How an attempt at a task ended."""

    DONE = auto()
    WAS_DONE = auto()  # another process had done it
    HELD_ELSEWHERE = auto()  # another process was quicker
    TAKEN_OVER = auto()  # another process took this one for dead; what it had not stored yet is dropped


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, and what describing a dataset measured."""

    end: End
    measurement: Measurement | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """Something to do in the run directory at `root`: the trials of `unit` or, where it is None, the description of
    `dataset` and `fold`. It has all that a process needs to do it."""

    root: Path
    study: Study
    dataset: str
    fold: int
    unit: Unit | None = None

    @property
    def name(self) -> str:
        """Name of its lease."""
        return f"data-{self.dataset}-{self.fold}" if self.unit is None else self.unit.unit_id

    @property
    def run(self) -> RunDirectory:
        """The run directory, as far as the task concerns it."""
        return RunDirectory(self.root, Plan(self.study, () if self.unit is None else (self.unit,)))

    def is_done(self) -> bool:
        """Whether some process has done it."""
        return self.run.has_data(self.dataset, self.fold) if self.unit is None else not self.run.pending()


@dataclass(frozen=True, slots=True)
class Terms:
    """How often a process shows that it lives, and for how long a trial may go on before the process ends itself."""

    beat_seconds: float = BEAT_SECONDS
    stall_seconds: float | None = None


_alone = threading.Lock()


def perform(task: Task, place: Place, terms: Terms, after: int, report: Report) -> Outcome:
    """Do `task` unless another process does; `after` is the generation of its lease that was found free or dead.

    Trials share the state of their process, so that only one task runs in it at a time.
    """
    with _alone:
        run = task.run
        lease = run.leases.claim(task.name, after, terms.beat_seconds)
        if lease is None:
            return Outcome(End.HELD_ELSEWHERE)
        watch = _Watch(lease, task, terms.stall_seconds)
        try:
            with lease.kept(watch.look):
                if task.is_done():
                    return Outcome(End.WAS_DONE)
                if task.unit is None:
                    return Outcome(End.DONE, describe(run, task.dataset, task.fold, place, lease))

                def ended(spec: TrialSpec, result: TrialResult) -> None:
                    watch.going_on()
                    report(spec.trial_id, str(result.status), len(result.epochs))

                run_unit(run, task.unit, place, lease, ended)
                return Outcome(End.DONE)
        except LeaseLost:
            return Outcome(End.TAKEN_OVER)


class _Watch:
    """Ends the process when a trial does not end: nothing else frees what it hangs in."""

    def __init__(self, lease: Lease, task: Task, limit: float | None) -> None:
        self._lease, self._task, self._limit = lease, task, limit
        self.going_on()

    def going_on(self) -> None:
        """Note that a trial has ended."""
        self._last_end = time.monotonic()

    def look(self) -> None:
        """End the process if the last trial ended too long ago. A trial that stalls for the second time has failed."""
        unit, limit = self._task.unit, self._limit
        if unit is None or limit is None or time.monotonic() - self._last_end < limit:
            return
        run = self._task.run
        stored = run.read_trials(unit, ["status"])
        spec = next((trial.spec for trial in unit.trials if trial.spec.trial_id not in stored), None)
        if spec is None:
            return
        if self._lease.held() and not run.mark_stalled(unit, spec):
            error = f"did not end within {limit:g} s, twice: its process was ended"
            result = TrialResult(error=error, total_seconds=limit, device="unknown")
            run.write_trial(unit, spec, result, versions(str(spec.config["backbone"])))
        print(
            f"stopped: trial {spec.trial_id} did not end within {limit:g} s, so process {os.getpid()} ended itself; "
            f"finished trials are stored: {RESUME}",
            file=sys.stderr,
            flush=True,
        )
        os._exit(EXIT_INTERRUPTED)
