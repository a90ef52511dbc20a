"""Running the studies of an evaluation: optimizers x test datasets x seeds, on one protocol."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metaquery.errors import InvalidInput
from metaquery.evaluation.measures import normalised_regret
from metaquery.evaluation.outcome import Evaluation
from metaquery.evaluation.progress import progress as show_progress
from metaquery.evaluation.protocols import PROTOCOLS, Fold, folds
from metaquery.optimizers import optimizer
from metaquery.optimizers.base import Optimizer
from metaquery.study import STALL_ASKS, Trajectory, run, versions
from metaquery.types import Budget, Charging

if TYPE_CHECKING:
    from metaquery.benchmarks.base import Benchmark
    from metaquery.corpus import Corpus

Factory = Callable[[int], Optimizer]

NORMALISER = (
    "(loss - best) / (worst - best), with best and worst over all epochs of all configs in the dataset's table at this "
    "fold and trial seed, separately for validation and test; 1 until a study has its first incumbent"
)


@dataclass(frozen=True, slots=True)
class _Range:
    best: float
    worst: float


def evaluate(
    corpus: Corpus,
    optimizers: Sequence[str] | Mapping[str, Factory],
    *,
    budget: Budget,
    protocol: str = "lodo",
    seeds: int = 10,
    datasets: Sequence[str] | None = None,
    train: Sequence[str] | None = None,
    metric: str = "auc",
    fold: int = 0,
    workers: int = 1,
    charging: Charging = "resume",
    out: str | Path | None = None,
    progress: bool = False,
) -> Evaluation:
    """Compare `optimizers` on the tables of `corpus`.

    `optimizers` are names, or a factory from seed to a new optimizer by label (for the same one with different
    options). Every one of them runs with the seeds 0 to `seeds` - 1 on every test dataset of `protocol`; `datasets`
    limits the test datasets, `train` sets the training ones (see `protocols.folds`). With `out`, the report is
    written there. Bad arguments are refused before the first study runs.
    """
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise InvalidInput(f"seeds must be a positive integer, got {seeds!r}")
    factories = _factories(optimizers)
    if out is not None:
        Evaluation.check_output(out)
    families = _families(corpus)
    plan = folds(protocol, families, datasets, train)
    examples = {label: factory(0) for label, factory in factories.items()}
    benches = {f.test: corpus.benchmark(f.test, kind="tabular", metric=metric, fold=fold, seed=0) for f in plan}
    ranges = {dataset: _ranges(bench) for dataset, bench in benches.items()}

    rows: list[dict[str, Any]] = []
    studies: list[dict[str, Any]] = []
    configs: dict[str, dict[str, Any]] = {}
    with show_progress(len(plan) * len(factories) * seeds, shown=progress) as advance:
        for dataset, label, seed in _product(plan, factories, seeds):
            bench = benches[dataset]
            trajectory = run(factories[label](seed), bench, budget, workers, charging)
            where = {"optimizer": label, "dataset": dataset, "seed": seed}
            rows += [where | row for row in _rows(trajectory, bench, ranges[dataset])]
            studies.append(where | _outcome(trajectory))
            configs |= {item.config.config_id: dict(item.config) for item in trajectory.incumbents}
            advance(label, dataset)

    first = next(iter(benches.values()))
    provenance = {
        "kind": "evaluation",
        "corpus": {"name": corpus.name, "version": corpus.version, "hash": corpus.hash},
        "benchmark": {key: value for key, value in first.stamp.items() if key != "dataset"},
        "protocol": {
            "name": protocol,
            "description": PROTOCOLS[protocol],
            "folds": [{"test": f.test, "train": list(f.train)} for f in plan],
        },
        "datasets": [
            {"dataset": name, "family": families[name], **_in_metric(bench, ranges[name])}
            for name, bench in benches.items()
        ],
        "optimizers": [
            {"label": label, **{key: value for key, value in example.stamp.items() if key != "seed"}}
            for label, example in examples.items()
        ],
        "seeds": list(range(seeds)),
        "budget": asdict(budget),
        "workers": workers,
        "charging": charging,
        "clock": "simulated",
        "optimizer_seconds": "not charged",
        "stall_asks": STALL_ASKS,
        "normaliser": NORMALISER,
        "versions": versions(),
        "studies": studies,
        "configs": configs,
    }
    evaluation = Evaluation.of(rows, provenance)
    if out is not None:
        evaluation.report(out)
    return evaluation


def _factories(optimizers: Sequence[str] | Mapping[str, Factory]) -> dict[str, Factory]:
    if isinstance(optimizers, str):
        raise InvalidInput(f"optimizers must be a list of names, got the single text {optimizers!r}: put it in a list")
    factories = dict(optimizers) if isinstance(optimizers, Mapping) else {name: _named(name) for name in optimizers}
    if not factories or len(factories) != len(optimizers):
        raise InvalidInput(f"expected at least one optimizer, each once, got {', '.join(optimizers) or 'none'}")
    return factories


def _named(name: str) -> Factory:
    return lambda seed: optimizer(name, seed=seed)


def _families(corpus: Corpus) -> dict[str, str]:
    columns = corpus.table("datasets", ["dataset", "family"]).to_pydict()
    return dict(zip(columns["dataset"], columns["family"], strict=True))


def _product(plan: Sequence[Fold], factories: Mapping[str, Factory], seeds: int) -> Iterator[tuple[str, str, int]]:
    for item in plan:
        for label in factories:
            for seed in range(seeds):
                yield item.test, label, seed


def _ranges(bench: Benchmark) -> dict[str, _Range]:
    """Best and worst loss over all epochs of all configs, by split."""
    curves = [bench.curve(config) for config in bench.configs or ()]
    ranges = {}
    for split, losses in (("validation", [c.value for c in curves]), ("test", [c.test for c in curves])):
        values = np.concatenate(losses) if losses else np.empty(0)
        values = values[np.isfinite(values)]
        if not len(values):
            raise InvalidInput(
                f"{bench.dataset} has no {split} {bench.metric.name} at fold {bench.fold} to normalise by: "
                "choose another metric, fold or dataset"
            )
        ranges[split] = _Range(float(values.min()), float(values.max()))
    return ranges


def _in_metric(bench: Benchmark, ranges: Mapping[str, _Range]) -> dict[str, dict[str, float]]:
    return {
        split: {"best": bench.metric.from_loss(r.best), "worst": bench.metric.from_loss(r.worst)}
        for split, r in ranges.items()
    }


def _rows(trajectory: Trajectory, bench: Benchmark, ranges: Mapping[str, _Range]) -> list[dict[str, Any]]:
    """One row per incumbent; an undefined test value has the regret of the worst one."""
    losses = {
        "validation": np.array([item.value for item in trajectory.incumbents]),
        "test": np.array([item.test for item in trajectory.incumbents]),
    }
    regrets = {}
    for split, loss in losses.items():
        best, worst = ranges[split].best, ranges[split].worst
        regrets[split] = normalised_regret(np.where(np.isnan(loss), worst, loss), best, worst)
    return [
        {
            "clock_seconds": item.clock_seconds,
            "epochs": item.epochs,
            "evaluations": item.evaluations,
            "validation": bench.metric.from_loss(item.value),
            "test": None if math.isnan(item.test) else bench.metric.from_loss(item.test),
            "validation_regret": float(regrets["validation"][i]),
            "test_regret": float(regrets["test"][i]),
            "config_id": item.config.config_id,
            "epoch": item.epoch,
        }
        for i, item in enumerate(trajectory.incumbents)
    ]


def _outcome(trajectory: Trajectory) -> dict[str, Any]:
    return {
        "stop": trajectory.stop,
        "evaluations": len(trajectory.steps),
        "epochs": trajectory.epochs,
        "clock_seconds": trajectory.clock_seconds,
        "statuses": dict(Counter(step.status for step in trajectory.steps)),
    }
