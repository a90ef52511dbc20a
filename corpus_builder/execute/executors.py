"""Where tasks are done: in this process, which is the reference, or in the workers of a Dask cluster."""

from __future__ import annotations

import re
import uuid
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from corpus_builder.execute.tasks import Outcome, Report, Task, Terms, perform
from corpus_builder.execute.work import Place

if TYPE_CHECKING:
    from distributed import Client


class WorkerDied(Exception):
    """The process that did a task is no more."""


class ClusterGone(Exception):
    """The scheduler of the cluster does not answer any more."""


class Executor(Protocol):
    """Does tasks, as many at a time as `capacity` says."""

    def capacity(self) -> int:
        """How many tasks it can do at a time; 0 while there is no worker."""
        ...

    def submit(self, task: Task, after: int) -> Future[Outcome]:
        """Do `task`; `after` is as of `perform`. The future may raise WorkerDied or ClusterGone."""
        ...


@dataclass(frozen=True, slots=True)
class Inline:
    """Does a task at once, in this process."""

    place: Place
    terms: Terms
    report: Report

    def capacity(self) -> int:
        """One."""
        return 1

    def submit(self, task: Task, after: int) -> Future[Outcome]:
        """Do it and return a future that is done."""
        future: Future[Outcome] = Future()
        try:
            future.set_result(perform(task, self.place, self.terms, after, self.report))
        except Exception as error:
            future.set_exception(error)
        return future


class OnDask:
    """Lets the workers of a Dask cluster do tasks."""

    def __init__(self, client: Client, place: Place, terms: Terms, report: Report) -> None:
        self._client, self._place, self._terms = client, place, terms
        self._topic = f"medcurves-{uuid.uuid4().hex}"
        client.subscribe_topic(self._topic, lambda event: report(*event[1]))
        self._executor = client.get_executor(pure=False)

    def capacity(self) -> int:
        """One for each worker that there is now; raises ClusterGone."""
        try:
            return len(self._client.scheduler_info()["workers"])
        except (OSError, TimeoutError) as error:
            raise ClusterGone from error

    def submit(self, task: Task, after: int) -> Future[Outcome]:
        """Let a worker do it."""
        outcome: Future[Outcome] = Future()
        done = self._executor.submit(_on_worker, task, self._place, self._terms, after, self._topic)
        done.add_done_callback(lambda _: _pass_on(done, outcome))
        return outcome


def _pass_on(done: Future[Outcome], outcome: Future[Outcome]) -> None:
    from distributed.scheduler import KilledWorker

    try:
        outcome.set_result(done.result())
    except KilledWorker:
        outcome.set_exception(WorkerDied())
    except CancelledError:
        outcome.set_exception(ClusterGone())
    except Exception as error:
        outcome.set_exception(error)


def _on_worker(task: Task, place: Place, terms: Terms, after: int, topic: str) -> Outcome:
    from distributed import get_worker

    worker = get_worker()

    def report(*ended: Any) -> None:
        worker.log_event(topic, ended)

    return perform(task, replace(place, device=device_of(place.device, worker.name)), terms, after, report)


def device_of(device: str, worker: object) -> str:
    """The device of a worker: those called 0, 1, ... or NAME-0, NAME-1, ... take the GPUs that they see in turn."""
    number = re.search(r"(\d+)$", str(worker))
    if device != "cuda" or number is None:
        return device
    import torch

    return f"cuda:{int(number[1]) % max(torch.cuda.device_count(), 1)}"
