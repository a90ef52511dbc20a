"""The studies of an evaluation, one at a time: what each is, how it is run, and what is kept of it."""

from __future__ import annotations

import hashlib
import inspect
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from metaquery.errors import InvalidConfig, MedCurvesError, OptimizerError
from metaquery.evaluation.histories import Histories
from metaquery.evaluation.parts import Part, Parts, part_key
from metaquery.evaluation.protocols import Fold
from metaquery.optimizers import optimizer, optimizer_class
from metaquery.optimizers.base import Optimizer
from metaquery.study import STALL_ASKS, clock, run, versions
from metaquery.trajectory import Trajectory
from metaquery.types import Budget, Charging, Snap

if TYPE_CHECKING:
    from metaquery.benchmarks.base import Benchmark
    from metaquery.corpus import Corpus
    from metaquery.optimizers.history import DatasetHistory, History

Factory = Callable[..., Optimizer]
FAILED = "failed"  # the stop of a study whose optimizer raised


@dataclass(frozen=True, slots=True)
class Terms:
    """What all studies of an evaluation have in common."""

    metric: str
    fold: int
    budget: Budget
    workers: int
    charging: Charging
    snap: Snap | None
    charge_optimizer: bool


@dataclass(frozen=True, slots=True)
class Job:
    """The study of the optimizer `label` on the test dataset of `plan`; without a seed, its preparation alone."""

    label: str
    plan: Fold
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """A finished job: what is kept of the study (None for a preparation), and how long it took.

    `seconds` are CPU seconds of the process that did it, 0 where the study had been kept from an earlier time.
    """

    job: Job
    part: Part | None
    seconds: float


class Studies:
    """Does jobs on the tables of `corpus`; what was opened for one stays open for the next."""

    def __init__(
        self, corpus: Corpus, factories: Mapping[str, Factory], terms: Terms, directory: Path | None = None
    ) -> None:
        self._corpus = corpus
        self._factories = factories
        self._terms = terms
        self._parts = None if directory is None else Parts(directory)
        self._learners = {label for label, made in factories.items() if "history" in inspect.signature(made).parameters}
        self._known = Histories(corpus, terms.metric, terms.fold, seed=0)
        self._histories: dict[Fold, History] = {}
        self._benches: dict[str, Benchmark] = {}

    def bench(self, dataset: str) -> Benchmark:
        """The table of `dataset`."""
        if dataset not in self._benches:
            self._benches[dataset] = self._corpus.benchmark(
                dataset, kind="tabular", metric=self._terms.metric, fold=self._terms.fold, seed=0
            )
        return self._benches[dataset]

    def trials(self, plan: Sequence[Fold]) -> tuple[DatasetHistory, ...]:
        """The trials of every dataset of `plan` that has any, those that test first."""
        trained = [name for fold in plan for name in (*fold.train, *fold.validation)]
        names = dict.fromkeys([*(fold.test for fold in plan), *trained])
        return self._known.training(name for name in names if name in self._known.datasets)

    def make(self, job: Job) -> Optimizer:
        """A new optimizer for `job`, one that learns from other datasets with what the fold lets it learn from."""
        seed = job.seed or 0
        if job.label not in self._learners:
            return self._factories[job.label](seed)
        if job.plan not in self._histories:
            self._histories[job.plan] = self._known.of(job.plan)
        return self._factories[job.label](seed, history=self._histories[job.plan])

    def prepares(self, label: str, made: Optimizer) -> bool:
        """Whether there is something to do once before the studies of `label`, of which `made` is one."""
        return label in self._learners and type(made).prepare is not Optimizer.prepare

    def do(self, job: Job) -> Done:
        """Do `job`. What the optimizer raises is recorded as the outcome; what the user can mend is raised."""
        started = time.process_time()
        made = self.make(job)
        if job.seed is None:
            with suppress(Exception):  # the studies, which need it, raise it again
                made.prepare()
            return Done(job, None, time.process_time() - started)
        key = part_key(self._definition(job, made))
        part = None if self._parts is None else self._parts.read(key)
        if part is not None:
            return Done(job, part, 0.0)
        try:
            part = self._run(made, self.bench(job.plan.test))
        except (InvalidConfig, OptimizerError) as error:
            return Done(job, _failed(error), time.process_time() - started)
        except MedCurvesError:
            raise
        except Exception as error:
            return Done(job, _failed(error), time.process_time() - started)
        if self._parts is not None:
            self._parts.write(key, part)
        return Done(job, part, time.process_time() - started)

    def _run(self, made: Optimizer, bench: Benchmark) -> Part:
        terms = self._terms
        charge = terms.charge_optimizer
        trajectory = run(made, bench, terms.budget, terms.workers, terms.charging, terms.snap, charge_optimizer=charge)
        return _kept(trajectory, bench)

    def _definition(self, job: Job, made: Optimizer) -> dict[str, Any]:
        """All that the outcome of the study depends on, but for our own code."""
        bench = self.bench(job.plan.test)
        learns = {"train": job.plan.train, "validation": job.plan.validation} if job.label in self._learners else {}
        return {
            "corpus": self._corpus.hash,
            "benchmark": bench.stamp,
            "clock": clock(bench),
            "optimizer": made.stamp,
            "source": _source(type(made)),
            "files": {path: _digest(path) for path in made.options.values() if _is_file(path)},
            "stall_asks": STALL_ASKS,
            "versions": versions(),
            **asdict(self._terms),
            **learns,
        }


def named(name: str) -> Factory:
    """The factory of the optimizer called `name`, which may hold options."""
    return _Learner(name) if optimizer_class(name).needs_history else _Plain(name)


@dataclass(frozen=True, slots=True)
class _Plain:
    name: str

    def __call__(self, seed: int) -> Optimizer:
        return optimizer(self.name, seed=seed)


@dataclass(frozen=True, slots=True)
class _Learner:
    name: str

    def __call__(self, seed: int, history: History) -> Optimizer:
        return optimizer(self.name, seed=seed, history=history)


def _source(kind: type[Optimizer]) -> list[str]:
    """Where an optimizer's class is defined, and the hash of that file, as it may be one that the user still edits."""
    try:
        digest = _digest(inspect.getfile(kind))
    except (OSError, TypeError):  # defined in a session
        digest = ""
    return [f"{kind.__module__}:{kind.__qualname__}", digest]


def _is_file(value: object) -> TypeGuard[str]:
    """Whether an option is a file, such as an artefact, whose content counts."""
    return isinstance(value, str) and value != "" and Path(value).is_file()


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _kept(trajectory: Trajectory, bench: Benchmark) -> Part:
    steps = trajectory.steps
    return {
        "outcome": {
            "stop": str(trajectory.stop),
            "error": None,
            "evaluations": len(steps),
            "epochs": trajectory.epochs,
            "clock_seconds": trajectory.clock_seconds,
            "statuses": dict(Counter(str(step.status) for step in steps)),
            "mean_distance": float(np.mean([step.distance for step in steps])) if steps else 0.0,
        },
        "incumbents": [
            {
                "clock_seconds": item.clock_seconds,
                "epochs": item.epochs,
                "evaluations": item.evaluations,
                "validation": item.value,
                "test": None if math.isnan(item.test) else item.test,
                "config_id": item.config.config_id,
                "epoch": item.epoch,
                "cost_seconds": bench.query(item.config, item.epoch).cost_seconds,
            }
            for item in trajectory.incumbents
        ],
        "configs": {item.config.config_id: dict(item.config) for item in trajectory.incumbents},
    }


def _failed(error: Exception) -> Part:
    outcome = {
        "stop": FAILED,
        "error": f"{type(error).__name__}: {' '.join(str(error).split())}",
        "evaluations": 0,
        "epochs": 0,
        "clock_seconds": 0.0,
        "statuses": {},
        "mean_distance": 0.0,
    }
    return {"outcome": outcome, "incumbents": [], "configs": {}}
