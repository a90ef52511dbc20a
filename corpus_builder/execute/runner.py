"""Running the pending units of a plan, in this process or in several."""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from pathlib import Path

import pyarrow as pa

from corpus_builder.backbones import BackboneSpec, member_spec
from corpus_builder.datasets import dataset_row, roles, split_rows
from corpus_builder.execute.progress import Progress
from corpus_builder.execute.rundir import RunDirectory
from corpus_builder.execute.work import Place, prepared, run_unit
from corpus_builder.metafeatures import Measurement, TrainingPart, measure, undefined_notes
from corpus_builder.plan import Plan, Unit
from corpus_builder.train.records import TrialResult
from metaquery.errors import Interrupted
from metaquery.schema import table


def run_plan(
    plan: Plan,
    root: Path,
    place: Place,
    *,
    workers: int = 1,
) -> Counter[str]:
    """Run what is pending of `plan` in the run directory `root`; returns how many trials ended in which status.

    Data and weights are checked before anything is written or trained.
    """
    from corpus_builder.backbones.weights import verify
    from corpus_builder.train.device import resolve_device

    resolve_device(place.device)
    weights: dict[str, str] = {}
    for card in plan.study.cards:
        for member in map(member_spec, plan.study.backbones_for(card)):
            if member.name not in weights and isinstance(member, BackboneSpec) and member.weights is not None:
                weights[member.name] = verify(member, place.weights_root, plan.study.size(card))
    described = {
        (card.name, fold): _describe(plan, card.name, fold, place, root)
        for card in plan.study.cards
        for fold in plan.study.folds
    }

    run = RunDirectory.create(root, plan)
    with run.lock():
        run.record_weights(weights)
        for (dataset, fold), found in described.items():
            if found is not None:
                run.write_data(dataset, fold, found[0])
        damaged = run.set_aside_damaged()
        pending = run.pending()
        done = len(plan.trials) - sum(len(unit.trials) for unit in pending)
        with Progress(total=len(plan.trials), done=done) as progress:
            for note in undefined_notes((key[0], found[1]) for key, found in described.items() if found is not None):
                progress.note(note)
            for path in damaged:
                progress.note(f"set aside a damaged shard, its trials run again: {path.name}")
            try:
                if workers == 1:
                    for unit in pending:
                        run_unit(run, unit, place, progress.trial)
                else:
                    for results in _in_processes(run, pending, place, workers):
                        for result in results:
                            progress.trial(result)
            except KeyboardInterrupt:
                raise Interrupted(
                    "interrupted; finished units are stored: run the same command again to resume"
                ) from None
        return progress.statuses


def _describe(
    plan: Plan, dataset: str, fold: int, place: Place, root: Path
) -> tuple[dict[str, pa.Table], Measurement] | None:
    """Rows of the data tables for a dataset and fold, and the measurement of its meta-features, or None where the run
    directory has them already."""
    if (root / "plan.parquet").exists() and RunDirectory(root, plan).has_data(dataset, fold):
        return None
    study = plan.study
    card = study.card(dataset)
    data = prepared(card, place.data_root, study.size(card))
    role = roles(data, fold, study.caps)
    measured = measure(TrainingPart.of(data, role, place.weights_root))
    rows = {
        "datasets": [dataset_row(data)],
        "splits": split_rows(data, fold, role),
        "metafeatures": [{"dataset": dataset, "fold": fold, **row} for row in measured.rows],
    }
    return {name: pa.Table.from_pylist(rows[name], schema=table(name).arrow_schema()) for name in rows}, measured


def _in_processes(run: RunDirectory, units: list[Unit], place: Place, workers: int) -> Iterator[list[TrialResult]]:
    """Run `units` in `workers` processes, yielding each unit's results without their predictions."""
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_ignore_interrupts)
    try:
        waiting: set[Future[list[TrialResult]]] = {pool.submit(_work, run.root, unit, place) for unit in units}
        while waiting:
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    except BrokenProcessPool:
        raise Interrupted(
            "a worker process was killed (out of memory?); finished units are stored: "
            "run the same command again to resume"
        ) from None
    except BaseException:
        for process in list(pool._processes.values()):  # a trial in flight may take long: do not wait for it
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent decides


_open = cache(RunDirectory.open)


def _work(root: Path, unit: Unit, place: Place) -> list[TrialResult]:
    results = run_unit(_open(root), unit, place)
    for result in results:
        result.predictions = {}  # they are in the shard; the parent only counts
    return results
