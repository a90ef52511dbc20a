"""A simulated clock with a fixed number of workers: jobs start now and finish in the order of their finish times."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import Generic, TypeVar

from metaquery.errors import InvalidInput

Job = TypeVar("Job")


@dataclass(frozen=True, slots=True)
class Run(Generic[Job]):
    """A job on a worker, from `start` to `finish` on the simulated clock, in seconds."""

    job: Job
    worker: int
    start: float
    finish: float


class Simulation(Generic[Job]):
    """Workers that take simulated time, and a clock that jumps from one finish to the next.

    Everything is decided by the calls alone: a job takes the free worker with the lowest number, and jobs that
    finish at the same time finish in the order in which they were started.
    """

    def __init__(self, workers: int) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise InvalidInput(f"workers must be a positive integer, got {workers!r}")
        self.now = 0.0
        self._free = list(range(workers))
        self._running: list[tuple[float, int, Run[Job]]] = []
        self._started = 0

    @property
    def free(self) -> int:
        """Number of workers without a job."""
        return len(self._free)

    @property
    def next_finish(self) -> float:
        """When the next job finishes; infinity where none is running."""
        return self._running[0][0] if self._running else math.inf

    def start(self, job: Job, seconds: float) -> None:
        """Give `job`, which takes `seconds`, to a free worker."""
        run = Run(job, heapq.heappop(self._free), self.now, self.now + seconds)
        heapq.heappush(self._running, (run.finish, self._started, run))
        self._started += 1

    def advance(self) -> list[Run[Job]]:
        """Move the clock to the next finish, and return the jobs that finish then; their workers are free again."""
        self.now = self.next_finish
        done = []
        while self._running and self._running[0][0] == self.now:
            run = heapq.heappop(self._running)[2]
            heapq.heappush(self._free, run.worker)
            done.append(run)
        return done
