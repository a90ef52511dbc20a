"""Opening an executor: this process, a Dask cluster on this machine, one that runs already, or one made of SLURM jobs.

Dask is imported only where it is used.
"""

from __future__ import annotations

import logging
import math
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path

from corpus_builder.execute.executors import Executor, Inline, OnDask
from corpus_builder.execute.leases import MISSED_BEATS
from corpus_builder.execute.slurm import SlurmOptions
from corpus_builder.execute.tasks import Report, Terms
from corpus_builder.execute.work import Place
from metaquery.errors import InvalidInput, MissingExtra

Opener = Callable[[Place, Terms, Report], AbstractContextManager[Executor]]

_SETTINGS = {
    "distributed.worker.profile.enabled": False,  # it takes CPU time, which would be a trial's cost
    "distributed.scheduler.allowed-failures": 0,  # a task whose worker died comes back to the runner, which decides
}
_LEAST_TTL_SECONDS = 10.0  # a worker that is only busy may be silent for seconds
_NO_DASHBOARD = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}  # any free port: 8787 may be in use


def opener(scheduler: str | None, workers: int | None, slurm: SlurmOptions | None, logs: Path) -> Opener:
    """What opens the executor that `scheduler` names: inline, local, slurm or the address of a Dask scheduler.

    None stands for inline, or for local where there is more than one worker.
    """
    if scheduler is None:
        scheduler = "inline" if workers in (None, 1) else "local"
    if (slurm is not None) != (scheduler == "slurm"):
        raise InvalidInput("--scheduler slurm and --slurm OPTIONS.yaml need each other: give both or neither")
    if scheduler == "inline":
        if workers not in (None, 1):
            raise InvalidInput(f"--scheduler inline is one process, got --workers {workers}: use --scheduler local")
        return inline
    if scheduler == "local":
        return partial(local, workers or 1)
    if slurm is not None:
        return partial(on_slurm, slurm, workers or slurm.workers_per_job, logs)
    if "://" not in scheduler:
        raise InvalidInput(f"unknown scheduler {scheduler!r}: expected inline, local, slurm or tcp://HOST:PORT")
    if workers is not None:
        raise InvalidInput(f"the workers of {scheduler} are those that it has: leave --workers out")
    return partial(at_address, scheduler)


@contextmanager
def inline(place: Place, terms: Terms, report: Report) -> Iterator[Executor]:
    """This process."""
    _check_device(place)
    yield Inline(place, terms, report)


@contextmanager
def local(workers: int, place: Place, terms: Terms, report: Report) -> Iterator[Executor]:
    """`workers` processes of one thread each on this machine."""
    _check_device(place)
    with _quiet_dask(terms):
        from distributed import Client, LocalCluster

        with _without_interrupts():
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address=None,
                scheduler_kwargs=_NO_DASHBOARD,
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            )
        with cluster, Client(cluster) as client:
            yield OnDask(client, place, terms, report)


@contextmanager
def at_address(address: str, place: Place, terms: Terms, report: Report) -> Iterator[Executor]:
    """The workers of a cluster that runs already, which see the same paths as this machine."""
    with _quiet_dask(terms):
        from distributed import Client

        try:
            client = Client(address, timeout=10)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"no Dask scheduler answers at {address}: start one with  dask scheduler") from error
        with client:
            yield OnDask(client, place, terms, report)


@contextmanager
def on_slurm(
    options: SlurmOptions, workers: int, logs: Path, place: Place, terms: Terms, report: Report
) -> Iterator[Executor]:
    """`workers` processes in as many SLURM jobs as they need; a job that ends before the run is submitted again."""
    logs.mkdir(parents=True, exist_ok=True)
    _try_submission(options.script(logs))
    with _quiet_dask(terms):
        from dask_jobqueue.slurm import SLURMCluster
        from distributed import Client

        jobs = math.ceil(workers / options.workers_per_job)
        settings = options.job(logs) | {"scheduler_options": _NO_DASHBOARD, "silence_logs": logging.CRITICAL}
        with SLURMCluster(**settings) as cluster:
            cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs)
            with Client(cluster) as client:
                yield OnDask(client, place, terms, report)


def _try_submission(script: str) -> None:
    """Raise InvalidInput where SLURM is not here or would refuse the job `script`."""
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        try:
            tried = subprocess.run(["sbatch", "--test-only", file.name], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise InvalidInput(
                "sbatch is not here: run this where jobs are submitted, or see the job script with --dry-run"
            ) from None
    if tried.returncode != 0:
        reason = " ".join(tried.stderr.split())
        raise InvalidInput(f"sbatch refuses the job ({reason}): see the job script with --dry-run")


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back; the threads and processes that are started meanwhile, and theirs, never get one: we decide."""
    resource_tracker.ensure_running()  # else the first process to be started starts it, and lets interrupts through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _check_device(place: Place) -> None:
    from corpus_builder.train.device import resolve_device

    resolve_device(place.device)


@contextmanager
def _quiet_dask(terms: Terms) -> Iterator[None]:
    """Dask with our settings, without its log and with nothing left on disk; as before afterwards.

    A worker that is silent for as long as would lose it a lease is started again, so that no unit waits for it longer.
    """
    try:
        import dask
        import distributed  # noqa: F401  its import sets up its log
    except ImportError:
        raise MissingExtra.of("dask", "build") from None
    ttl = max(MISSED_BEATS * terms.beat_seconds, _LEAST_TTL_SECONDS)
    settings = _SETTINGS | {"distributed.scheduler.worker-ttl": f"{ttl} s"}
    log = logging.getLogger("distributed")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="medcurves-") as scratch,
            dask.config.set(settings | {"temporary-directory": scratch}),
        ):
            yield
    finally:
        log.setLevel(level)
