"""`evaluate`: optimizers x test datasets x seeds on one protocol, from its arguments to an Evaluation."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metaquery.errors import Interrupted, InvalidInput
from metaquery.evaluation.outcome import Evaluation
from metaquery.evaluation.parts import PARTS, Part, Parts
from metaquery.evaluation.pool import Setup, in_processes, serial
from metaquery.evaluation.progress import progress as show_progress
from metaquery.evaluation.protocols import Fold, Protocol, Traits, folds, traits
from metaquery.evaluation.reference import NORMALISERS, Reference, references
from metaquery.evaluation.studies import Factory, Job, Studies, Terms, named
from metaquery.evaluation.transfer import transfer
from metaquery.optimizers.base import Optimizer
from metaquery.study import STALL_ASKS, clock, versions
from metaquery.types import Budget, Charging, Snap

if TYPE_CHECKING:
    from metaquery.benchmarks.base import Benchmark
    from metaquery.corpus import Corpus

SEEDS = 10


def evaluate(
    corpus: Corpus,
    optimizers: Sequence[str] | Mapping[str, Factory],
    *,
    budget: Budget | None = None,
    protocol: str | Path | Protocol = "lodo",
    seeds: int | None = None,
    datasets: Sequence[str] | None = None,
    train: Sequence[str] | None = None,
    validation: Sequence[str] | None = None,
    metric: str | None = None,
    fold: int = 0,
    workers: int | None = None,
    charging: Charging | None = None,
    snap: Snap | None = None,
    charge_optimizer: bool | None = None,
    processes: int | None = None,
    out: str | Path | None = None,
    progress: bool = False,
) -> Evaluation:
    """Compare `optimizers` on the tables of `corpus`.

    `optimizers` are names, or a factory from seed to a new optimizer by label (for the same one with different
    options); one that has a parameter `history` is given the `History` of its fold as well. Every one of them runs with
    the seeds 0 to `seeds` - 1 on every test dataset of `protocol` (a bundled one by name, or your own by path);
    `datasets` limits the test datasets, `train` and `validation` replace what trains and validates. What is left out is
    as the protocol says, else 10 seeds, 1 worker, charging `resume`, no snapping, an optimizer whose own time is not
    charged, and the corpus's `default_metric`.

    With `processes`, studies run in that many processes at once, with the same results; optimizers must then be names
    or functions that can be imported, and a script must guard its main part as `multiprocessing` asks. Without, they
    run here. With `out`, the report is written there, and before that every finished study: the same call goes on
    where an earlier one was interrupted, and another one there runs only what is new.

    An optimizer that raises loses that study alone: it is named in the provenance and the report, and counts as the
    worst. Bad arguments are refused before the first study runs. Where the corpus has no test values of the metric, as
    imported ones may, only validation is reported.
    """
    seconds: dict[str, float] = {}
    rules = protocol if isinstance(protocol, Protocol) else Protocol.load(protocol)
    given = rules.defaults
    n_seeds = SEEDS if seeds is None and given.seeds is None else seeds if seeds is not None else given.seeds
    if isinstance(n_seeds, bool) or not isinstance(n_seeds, int) or n_seeds < 1:
        raise InvalidInput(f"seeds must be a positive integer, got {n_seeds!r}")
    factories = _factories(optimizers)
    directory = None if out is None else Path(out)
    if directory is not None:
        Evaluation.check_output(directory)
    with _timed(seconds, "opening"):
        terms = Terms(
            metric=metric or given.metric or corpus.default_metric,
            fold=fold,
            budget=budget or given.budget or Budget(),
            workers=(given.workers or 1) if workers is None else workers,
            charging=charging or given.charging or "resume",
            snap=snap or given.snap,
            charge_optimizer=bool(given.charge_optimizer) if charge_optimizer is None else charge_optimizer,
        )
        known = traits(corpus)
        plan = folds(rules, known, datasets, train, validation)
        parts = None if directory is None else directory / PARTS
        studies = Studies(corpus, factories, terms, parts)
        examples = {label: studies.make(Job(label, plan[0])) for label in factories}
        benches = {item.test: studies.bench(item.test) for item in plan}
        measured = references(list(benches.values()), given.normaliser or "all_epochs")
    setup = Setup(corpus.roots, factories, terms, parts)
    first = [
        [Job(label, item) for item in {(f.train, f.validation): f for f in plan}.values()]
        for label, made in examples.items()
        if studies.prepares(label, made)
    ]
    every = [Job(label, item, seed) for item, label, seed in product(plan, factories, range(n_seeds))]
    seconds |= {"meta-training": 0.0} if first else {}
    seconds |= dict.fromkeys(factories, 0.0)
    found: dict[Job, Part] = {}
    with (
        show_progress(len(every), n_seeds, shown=progress) as advance,
        serial(studies) if processes is None else in_processes(processes, setup) as do,
        _kept_where(directory),
    ):
        for group in first:
            for done in do(group):
                seconds["meta-training"] += done.seconds
        for done in do(every):
            assert done.part is not None
            found[done.job] = done.part
            seconds[done.job.label] += done.seconds
            advance(done.job.label, done.job.plan.test)
    if parts is not None:
        Parts(parts).tidy()
    with _timed(seconds, "analysis"):
        rows = [row for job in every for row in _rows(job, found[job], benches, measured)]
        outcomes = [_where(job) | found[job]["outcome"] for job in every]
        provenance = _provenance(corpus, rules, terms, plan, known, examples, benches, measured) | {
            "seeds": list(range(n_seeds)),
            "studies": outcomes,
        }
        provenance["transfer"] = transfer(studies.trials(plan), benches, measured, provenance["judged"])
        evaluation = Evaluation.of(rows, provenance, seconds)
        _ = evaluation.analysis.summary
    if directory is not None:
        with _timed(seconds, "report"):
            evaluation.report(directory)
    return evaluation


def _factories(optimizers: Sequence[str] | Mapping[str, Factory]) -> dict[str, Factory]:
    if isinstance(optimizers, str):
        raise InvalidInput(f"optimizers must be a list of names, got the single text {optimizers!r}: put it in a list")
    factories = dict(optimizers) if isinstance(optimizers, Mapping) else {name: named(name) for name in optimizers}
    if not factories or len(factories) != len(optimizers):
        raise InvalidInput(f"expected at least one optimizer, each once, got {', '.join(optimizers) or 'none'}")
    return factories


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    started = time.process_time()
    yield
    seconds[part] = time.process_time() - started


@contextmanager
def _kept_where(directory: Path | None) -> Iterator[None]:
    """Say, when the user interrupts, that nothing finished is lost."""
    try:
        yield
    except KeyboardInterrupt:
        if directory is None:
            raise
        raise Interrupted(f"finished studies are in {directory}: the same command goes on from there") from None


def _where(job: Job) -> dict[str, Any]:
    return {"optimizer": job.label, "dataset": job.plan.test, "seed": job.seed}


def _rows(
    job: Job, part: Part, benches: Mapping[str, Benchmark], measured: Mapping[str, Reference]
) -> Iterator[dict[str, Any]]:
    """One row per incumbent, values in the metric's own direction, with their regrets."""
    reference, metric = measured[job.plan.test], benches[job.plan.test].metric
    losses = {
        split: np.array([item[split] for item in part["incumbents"]], dtype=np.float64)  # None becomes NaN
        for split in reference.best
    }
    regrets = {split: reference.regret(split, values) for split, values in losses.items()}
    for i, item in enumerate(part["incumbents"]):
        values = {name: value for name, value in item.items() if name not in ("validation", "test")}
        for split in ("validation", "test"):
            loss = item[split]
            values[split] = None if loss is None else metric.from_loss(loss)
            values[f"{split}_regret"] = float(regrets[split][i]) if split in regrets else None
        yield _where(job) | values | {"config": part["configs"][item["config_id"]]}


def _provenance(
    corpus: Corpus,
    rules: Protocol,
    terms: Terms,
    plan: Sequence[Fold],
    known: Mapping[str, Traits],
    examples: Mapping[str, Optimizer],
    benches: Mapping[str, Benchmark],
    measured: Mapping[str, Reference],
) -> dict[str, Any]:
    """What was run and on which terms, but for seeds and studies."""
    bench = next(iter(benches.values()))
    splits = list(next(iter(measured.values())).best)
    judged = rules.defaults.judged or splits[-1]
    normaliser = rules.defaults.normaliser or "all_epochs"
    return {
        "kind": "evaluation",
        "corpus": {"name": corpus.name, "version": corpus.version, "hash": corpus.hash},
        "benchmark": {key: value for key, value in bench.stamp.items() if key != "dataset"},
        "protocol": {
            "name": rules.name,
            "description": rules.description,
            "folds": [
                {"test": f.test, "train": list(f.train), "validation": list(f.validation), "group": f.group}
                for f in plan
            ],
        },
        "datasets": [
            {
                "dataset": name,
                "family": known[name].family,
                "modality": known[name].modality,
                **measured[name].to_json(item.metric.from_loss),
            }
            for name, item in benches.items()
        ],
        "optimizers": [
            {"label": label, **{key: value for key, value in made.stamp.items() if key not in ("seed", "history")}}
            for label, made in examples.items()
        ],
        "budget": asdict(terms.budget),
        "workers": terms.workers,
        "charging": terms.charging,
        "snap": terms.snap,
        "splits": splits,
        "judged": judged if judged in splits else splits[-1],
        "clock": clock(bench),
        "optimizer_seconds": "charged as measured" if terms.charge_optimizer else "not charged",
        "stall_asks": STALL_ASKS,
        "normaliser": {"name": normaliser, "formula": NORMALISERS[normaliser]},
        "versions": versions(),
    }
