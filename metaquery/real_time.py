"""A clock that really runs: jobs work in threads, and events come when they happen. Used like a `Simulation`."""

from __future__ import annotations

import heapq
import math
import queue
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic

from metaquery.simulation import Event, Job, Run, Stages, free_workers


class RealTime(Generic[Job]):
    """Workers that take real time, one thread each; `now` is in seconds since it was made.

    After a stage that is not the last, a worker waits to be told whether to go on. An error of the work is raised by
    `events`. `close` waits for what is still running, as a thread cannot be ended from outside.
    """

    def __init__(self, workers: int) -> None:
        self._free = free_workers(workers)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="evaluation")
        self._happened: queue.SimpleQueue[Event[Job] | BaseException] = queue.SimpleQueue()
        self._next: Event[Job] | BaseException | None = None  # taken from the queue by `wait`
        self._answers: dict[int, queue.SimpleQueue[bool]] = {}  # of the runs
        self._numbers = 0
        self._began = time.monotonic()

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    @property
    def free(self) -> int:
        """Number of workers without a job."""
        return len(self._free)

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return bool(self._answers)

    def start(self, job: Job, work: Stages) -> None:
        """Give `job` to a free worker."""
        self._numbers += 1
        run = Run(self._numbers, job, heapq.heappop(self._free), self.now)
        self._answers[run.number] = queue.SimpleQueue()
        self._threads.submit(self._work, run, work, self._answers[run.number])

    def stop(self, run: Run[Job]) -> None:
        """End `run`, which has just done a stage that was not the last."""
        self._answers.pop(run.number).put(False)
        heapq.heappush(self._free, run.worker)

    def go_on(self, run: Run[Job]) -> None:
        """Let `run` go on after a stage that was not the last."""
        self._answers[run.number].put(True)

    def charge(self, seconds: float) -> None:
        """Nothing: whatever takes time has taken it."""

    def wait(self, limit: float) -> bool:
        """Sleep until something happens; False where nothing does until `limit`."""
        timeout = None if limit == math.inf else max(limit - self.now, 0.0)
        try:
            self._next = self._happened.get(timeout=timeout)
        except queue.Empty:
            return False
        return isinstance(self._next, BaseException) or self._next.seconds <= limit

    def events(self) -> Iterator[Event[Job]]:
        """What has happened and was not told yet; the worker of a run that ended is free again."""
        while self._next is not None:
            event, self._next = self._next, None
            if isinstance(event, BaseException):
                raise event
            if event.last:
                del self._answers[event.run.number]
                heapq.heappush(self._free, event.run.worker)
            yield event
            if not self._happened.empty():
                self._next = self._happened.get()

    def close(self) -> None:
        """Stop every run at the end of its stage, and wait for that."""
        for answers in self._answers.values():
            answers.put(False)
        self._threads.shutdown(wait=True)

    def _work(self, run: Run[Job], work: Stages, answers: queue.SimpleQueue[bool]) -> None:
        try:
            for stage, (_, last) in enumerate(work):
                self._happened.put(Event(run, stage, last, self.now))
                if last or not answers.get():
                    return
        except BaseException as error:
            self._happened.put(error)
