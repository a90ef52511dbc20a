"""Running what is pending of a plan, together with whoever else runs it in the same directory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

from corpus_builder.backbones import BackboneSpec, member_spec
from corpus_builder.datasets import roles
from corpus_builder.execute.clusters import Opener, inline
from corpus_builder.execute.executors import ClusterGone, Executor, WorkerDied
from corpus_builder.execute.progress import Progress
from corpus_builder.execute.rundir import RunDirectory
from corpus_builder.execute.tasks import RESUME, End, Outcome, Task, Terms
from corpus_builder.execute.work import Place, prepared
from corpus_builder.metafeatures import Measurement, undefined_notes
from corpus_builder.plan import Plan, Unit
from metaquery.errors import Interrupted

_ATTEMPTS = 3  # at a unit whose worker dies before it ends another trial
_POLL_SECONDS = 1.0
_SETUP = "setup"  # the lease of what only one process may do


def run_plan(
    plan: Plan, root: Path, place: Place, *, opener: Opener = inline, terms: Terms | None = None
) -> Counter[str]:
    """Run what is pending of `plan` in the run directory `root`; returns how many trials ended in which status.

    Data and weights are checked before anything is written or trained. Raises Interrupted where something is left.
    """
    root = root.absolute()
    place = place.absolute()
    run = RunDirectory.preview(root, plan)
    units = _units_of(run.plan, plan)
    damaged = run.damaged(units)
    if not (tasks := _tasks(run, units, damaged)):
        return Counter()
    weights = _checked_weights(plan, place)
    run.check_weights(weights)
    _check_data(tasks, place)
    total = sum(len(unit.trials) for unit in units)
    with Progress(total, _stored(run, units, {task.name for task in tasks})) as progress:
        try:
            with opener(place, terms or Terms(), progress.trial) as executor:
                for path in _set_up(run, plan, weights, damaged):
                    progress.note(f"set aside a damaged shard, its trials run again: {path.name}")
                _Session(run, tasks, executor, progress).work()
                _clear_up(run)
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; finished trials are stored: {RESUME}") from None
        except ClusterGone:
            raise Interrupted(f"the Dask scheduler is gone; finished trials are stored: {RESUME}") from None
    return progress.statuses


class _Session:
    """The tasks of a run between start and end."""

    def __init__(self, run: RunDirectory, tasks: list[Task], executor: Executor, progress: Progress) -> None:
        self._run, self._executor, self._progress = run, executor, progress
        self._waiting = tasks
        self._flying: dict[Future[Outcome], Task] = {}
        self._deaths: Counter[tuple[str, int]] = Counter()
        self._given_up: list[Task] = []
        self._measured: list[tuple[str, Measurement]] = []
        self._said: set[str] = set()

    def work(self) -> None:
        """Get every task done, here or elsewhere."""
        while self._waiting or self._flying:
            self._submit()
            if self._flying:
                for future in wait(self._flying, _POLL_SECONDS, FIRST_COMPLETED).done:
                    self._ended(self._flying.pop(future), future)
                self._leave_the_dead()
            elif self._waiting:
                time.sleep(_POLL_SECONDS)
        for note in undefined_notes(self._measured):
            self._progress.note(note)
        if self._given_up:
            raise Interrupted(
                f"{len(self._given_up)} units, {self._given_up[0].name} first, were given up after {_ATTEMPTS} workers "
                f"had died in them (out of memory?); all others are stored: run the same command again to try once more"
            )

    def _submit(self) -> None:
        """Submit as many tasks as the executor can do, of those that are not done and that nobody else does."""
        capacity = self._executor.capacity()
        if capacity == 0:
            self._say("waiting for a worker to join")
        holder = None
        for task in list(self._waiting):
            if len(self._flying) >= capacity:
                return
            if task.is_done():
                self._waiting.remove(task)
                self._count(task, own=False)
            elif (holder := self._run.leases.holder(task.name)) is None:
                self._waiting.remove(task)
                future = self._executor.submit(task, self._run.leases.generation(task.name))
                self._flying[future] = task
        if holder is not None and not self._flying:
            self._say(f"waiting for what others do, like {holder}")

    def _ended(self, task: Task, future: Future[Outcome]) -> None:
        try:
            outcome = future.result()
        except WorkerDied:
            self._died(task)
            return
        if outcome.end in (End.DONE, End.WAS_DONE):
            self._count(task, own=outcome.end is End.DONE)
            if outcome.measurement is not None:
                self._measured.append((task.dataset, outcome.measurement))
        else:
            self._waiting.append(task)

    def _count(self, task: Task, own: bool) -> None:
        """Count the trials of a task that is done: reports of workers may be late or lost."""
        if task.unit is not None:
            shard = self._run.read_shard(task.unit, ["status", "epochs_run"])
            for row in shard.to_pylist():
                self._progress.trial(row["trial_id"], row["status"], row["epochs_run"], own)

    def _leave_the_dead(self) -> None:
        """Take back the tasks whose worker has stopped without a word: it may be frozen, or cut off."""
        for future, task in list(self._flying.items()):
            leases = self._run.leases
            if not future.done() and leases.holder(task.name) is None and leases.generation(task.name) > 0:
                del self._flying[future]
                self._died(task)

    def _died(self, task: Task) -> None:
        """Another attempt, unless too many were in vain. A task whose worker died before it began is not to blame."""
        if self._run.leases.generation(task.name) > 0:
            self._progress.note(f"the worker that had {task.name} ({task.dataset}) has died")
            ended = 0 if task.unit is None else len(self._run.read_trials(task.unit, ["status"]))
            self._deaths[task.name, ended] += 1
            if self._deaths[task.name, ended] == _ATTEMPTS:
                self._given_up.append(task)
                return
        self._waiting.append(task)

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._progress.note(text)


def _units_of(all_trials: Plan, plan: Plan) -> list[Unit]:
    """The units of `all_trials` that hold trials of `plan`."""
    wanted = {trial.spec.trial_id for trial in plan.trials}
    return [unit for unit in all_trials.units if any(trial.spec.trial_id in wanted for trial in unit.trials)]


def _tasks(run: RunDirectory, units: list[Unit], damaged: list[Unit]) -> list[Task]:
    """What is to be done for `units`: descriptions of datasets, which come first, and the trials."""
    study = run.plan.study
    spots = dict.fromkeys((unit.trials[0].spec.dataset, unit.trials[0].spec.fold) for unit in units)
    described = [Task(run.root, study, dataset, fold) for dataset, fold in spots if not run.has_data(dataset, fold)]
    pending = [unit for unit in units if unit in damaged or not run.shard_path(unit).exists()]
    first = [unit.trials[0].spec for unit in pending]
    trials = [Task(run.root, study, spec.dataset, spec.fold, unit) for spec, unit in zip(first, pending, strict=True)]
    return described + trials


def _stored(run: RunDirectory, units: list[Unit], pending: set[str]) -> set[str]:
    """The finished trials of `units`, of which those named in `pending` have no shard."""
    stored: set[str] = set()
    for unit in units:
        if unit.unit_id in pending:
            stored |= run.read_trials(unit, ["status"]).keys()
        else:
            stored |= {trial.spec.trial_id for trial in unit.trials}
    return stored


def _checked_weights(plan: Plan, place: Place) -> dict[str, str]:
    """SHA-256 of the weights files by backbone; raises InvalidInput where one is missing or another."""
    from corpus_builder.backbones.weights import verify

    weights: dict[str, str] = {}
    for card in plan.study.cards:
        for member in map(member_spec, plan.study.backbones_for(card)):
            if member.name not in weights and isinstance(member, BackboneSpec) and member.weights is not None:
                weights[member.name] = verify(member, place.weights_root, plan.study.size(card))
    return weights


def _check_data(tasks: Iterable[Task], place: Place) -> None:
    """Prepare the datasets; raises InvalidInput where one is missing or contradicts its card."""
    for dataset, fold in dict.fromkeys((task.dataset, task.fold) for task in tasks):
        study = next(task.study for task in tasks if task.dataset == dataset)
        card = study.card(dataset)
        roles(prepared(card, place.data_root, study.size(card)), fold, study.caps)


def _set_up(previewed: RunDirectory, plan: Plan, weights: dict[str, str], damaged: list[Unit]) -> list[Path]:
    """Store the plan and the hashes of the weights, and clear up; returns the damaged shards that were set aside."""
    with previewed.leases.alone(_SETUP):
        run = RunDirectory.create(previewed.root, plan)
        run.record_weights(weights)
        aside = run.set_aside(run.damaged(damaged))
        run.sweep(_SETUP)
        return aside


def _clear_up(run: RunDirectory) -> None:
    with run.leases.alone(_SETUP):
        run.sweep(_SETUP)
