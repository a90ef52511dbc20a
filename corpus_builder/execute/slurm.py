"""What a run asks SLURM for: `schemas/slurm.schema.json`, and the job script that comes of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from metaquery.errors import InvalidInput
from metaquery.schema import check_document


@dataclass(frozen=True, slots=True)
class SlurmOptions:
    """A job: `gpus` with `workers_per_gpu` on each, or `workers_per_gpu` workers where it has none."""

    time: str
    memory: str
    partition: str | None = None
    account: str | None = None
    gpus: int = 1
    workers_per_gpu: int = 1
    cpus_per_worker: int = 1
    interface: str | None = None
    directives: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()

    @property
    def workers_per_job(self) -> int:
        """Worker processes of a job."""
        return max(self.gpus, 1) * self.workers_per_gpu

    def job(self, logs: Path) -> dict[str, Any]:
        """Arguments of dask_jobqueue's SLURMJob; `logs` is where the output of jobs goes."""
        gpus = [f"--gres=gpu:{self.gpus}"] if self.gpus else []
        return {
            "queue": self.partition,
            "account": self.account,
            "walltime": self.time,
            "memory": self.memory,
            "processes": self.workers_per_job,
            "cores": self.workers_per_job * self.cpus_per_worker,
            "interface": self.interface,
            "job_extra_directives": [*gpus, f"--output={logs}/%j.txt", *self.directives],
            "job_script_prologue": list(self.prologue),
            "job_name": "medcurves",
            "python": sys.executable,
            "worker_extra_args": ["--nthreads", "1", "--no-dashboard"],  # one trial at a time, however many cores
        }

    def script(self, logs: Path) -> str:
        """The job script, as `sbatch` gets it but for the address of the scheduler."""
        from dask_jobqueue.slurm import SLURMJob

        return str(SLURMJob("tcp://SCHEDULER", name="medcurves", **self.job(logs)).job_script())


def load_slurm_options(path: Path) -> SlurmOptions:
    """Read and check a YAML file of options."""
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InvalidInput(f"cannot read the SLURM options {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise InvalidInput(f"{path} holds no SLURM options: expected a mapping with time, memory ..., got {document!r}")
    if isinstance(document.get("time"), int):
        raise InvalidInput(f'{path}: YAML takes the time for a number: put it in quotes, as in  time: "04:00:00"')
    check_document("slurm", document, what=str(path))
    lists = {name: tuple(document[name]) for name in ("directives", "prologue") if name in document}
    return SlurmOptions(**{**document, **lists})
