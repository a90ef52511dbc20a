"""A simulated clock with a fixed number of workers: work starts now, and the clock jumps from one event to the next."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from metaquery.errors import InvalidInput

Job = TypeVar("Job")
Stages = Iterable[tuple[float, bool]]
"""The work of a job, stage by stage: the seconds from its beginning to the end of the stage, and if it is the last."""


@dataclass(slots=True)  # frozen would take twice as long to make
class Run(Generic[Job]):
    """A job that a worker took at `start`, in seconds on the clock."""

    number: int
    job: Job
    worker: int
    start: float


@dataclass(slots=True)  # frozen would take twice as long to make
class Event(Generic[Job]):
    """A stage of a run, counted from 0, was done at `seconds`; with the `last` one the run ended."""

    run: Run[Job]
    stage: int
    last: bool
    seconds: float


class Simulation(Generic[Job]):
    """Workers that take simulated time.

    Everything is decided by the calls alone: a job takes the free worker with the lowest number, and what happens at
    the same time comes in the order in which the jobs were started. Work begins `start_delay` seconds after a worker
    took the job, and a worker is free `stop_delay` seconds after its run ended or was stopped.
    """

    def __init__(self, workers: int, start_delay: float = 0.0, stop_delay: float = 0.0) -> None:
        self.now = 0.0
        self._free = free_workers(workers)
        self._delays = start_delay, stop_delay
        self._events: list[tuple[float, int, int, bool, Run[Job]]] = []  # stage -1: its worker becomes free
        self._running: set[int] = set()
        self._numbers = 0

    @property
    def free(self) -> int:
        """Number of workers without a job."""
        return len(self._free)

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return bool(self._running)

    def start(self, job: Job, work: Stages) -> None:
        """Give `job` to a free worker."""
        self._numbers += 1
        number = self._numbers
        run = Run(number, job, heapq.heappop(self._free), self.now)
        self._running.add(number)
        begin = self.now + self._delays[0]
        for stage, (seconds, last) in enumerate(work):
            heapq.heappush(self._events, (begin + seconds, number, stage, last, run))

    def stop(self, run: Run[Job]) -> None:
        """End `run` now, before its last stage."""
        self._release(run, self.now)

    def go_on(self, run: Run[Job]) -> None:
        """Let `run` go on after a stage that was not the last: it does anyway."""

    def charge(self, seconds: float) -> None:
        """Let time pass in which nobody answers the workers."""
        self.now += seconds

    def wait(self, limit: float) -> bool:
        """Move the clock to the next event; False, with the clock at `limit`, where there is none until then."""
        upcoming = self._events[0][0] if self._events else math.inf
        moved = max(self.now, upcoming)
        self.now = min(moved, limit)
        return moved <= limit

    def events(self) -> Iterator[Event[Job]]:
        """What has happened until now and was not told yet; the worker of a run that ended is free again."""
        until = self.now
        while self._events and self._events[0][0] <= until:
            seconds, number, stage, last, run = heapq.heappop(self._events)
            if stage < 0:
                heapq.heappush(self._free, run.worker)
            elif number in self._running:
                if last:
                    self._release(run, seconds)
                yield Event(run, stage, last, seconds)

    def close(self) -> None:
        """Nothing is left to be ended."""

    def _release(self, run: Run[Job], seconds: float) -> None:
        self._running.remove(run.number)
        if self._delays[1]:
            heapq.heappush(self._events, (seconds + self._delays[1], run.number, -1, True, run))
        else:
            heapq.heappush(self._free, run.worker)


def free_workers(workers: int) -> list[int]:
    """The numbers of `workers` workers, as a heap; InvalidInput where that is not a positive integer."""
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise InvalidInput(f"workers must be a positive integer, got {workers!r}")
    return list(range(workers))
