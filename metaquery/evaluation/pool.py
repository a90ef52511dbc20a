"""Doing the jobs of an evaluation in this process, or in several that end with it."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from metaquery.errors import Interrupted, InvalidInput
from metaquery.evaluation.studies import Done, Factory, Job, Studies, Terms

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

Do = Callable[[Sequence[Job]], Iterator[Done]]  # the jobs, done in any order


@dataclass(frozen=True)
class Setup:
    """What a process needs to do jobs of an evaluation; it opens the corpus itself."""

    roots: tuple[Path, ...]
    factories: dict[str, Factory]
    terms: Terms
    directory: Path | None


@contextmanager
def serial(studies: Studies) -> Iterator[Do]:
    """Jobs one after the other, in this process; on one thread, as in other processes, for the same numbers."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield lambda jobs: map(studies.do, jobs)


@contextmanager
def in_processes(n: int, setup: Setup) -> Iterator[Do]:
    """Jobs in `n` new processes, each on one thread; they end with the block, or with this process however it ends."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InvalidInput(f"processes must be a positive integer, got {n!r}")
    try:
        pickle.dumps(setup)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise InvalidInput(
            "only optimizers given by name, or by a function that can be imported, can run in other processes: leave "
            f"processes out ({error})"
        ) from error
    hands: dict[Connection[Any, Any], SpawnProcess] = {}

    def do(jobs: Sequence[Job]) -> Iterator[Done]:
        while len(hands) < min(n, len(jobs)):
            connection, process = _start(setup)
            hands[connection] = process
        yield from _spread(jobs, hands)

    try:
        yield do
    finally:
        for process in hands.values():
            process.terminate()
        for process in hands.values():
            process.join()


def _start(setup: Setup) -> tuple[Connection[Any, Any], SpawnProcess]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, setup), daemon=True)
    process.start()
    theirs.close()
    return ours, process


def _spread(jobs: Sequence[Job], hands: dict[Connection[Any, Any], SpawnProcess]) -> Iterator[Done]:
    waiting = deque(jobs)
    doing: dict[Connection[Any, Any], Job] = {}
    for connection in hands:
        if waiting:
            doing[connection] = waiting.popleft()
            connection.send(doing[connection])
    while doing:
        for connection in cast("list[Connection[Any, Any]]", wait(list(doing))):
            job = doing.pop(connection)
            try:
                found = connection.recv()
            except (EOFError, OSError) as error:
                hands[connection].join()
                raise Interrupted(
                    f"the process of {job.label} on {job.plan.test} died (exit code {hands[connection].exitcode}), "
                    "perhaps for lack of memory: the same command goes on from the finished studies, with fewer "
                    "processes if need be"
                ) from error
            if isinstance(found, BaseException):
                raise found
            if waiting:
                doing[connection] = waiting.popleft()
                connection.send(doing[connection])
            yield found


def _work(connection: Connection[Any, Any], setup: Setup) -> None:
    """What a process does: jobs until there are no more, or the process that started it is gone."""
    from threadpoolctl import threadpool_limits

    from metaquery.corpus import open as open_corpus

    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = "1"  # for libraries that are loaded from now on
    threadpool_limits(1)
    studies = None
    try:
        while True:
            job = connection.recv()
            try:
                studies = studies or Studies(open_corpus(setup.roots), setup.factories, setup.terms, setup.directory)
                done: Done | Exception = studies.do(job)
            except Exception as error:
                done = error
            connection.send(done)
    except (EOFError, OSError, KeyboardInterrupt):
        return  # the other side is gone, or about to end this one


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
