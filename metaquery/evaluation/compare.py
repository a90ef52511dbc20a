"""Running the studies of an evaluation: optimizers x test datasets x seeds, on one protocol."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from inspect import signature
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metaquery.errors import InvalidInput
from metaquery.evaluation.analysis import SPLITS
from metaquery.evaluation.histories import Histories
from metaquery.evaluation.measures import normalised_regret
from metaquery.evaluation.outcome import Evaluation
from metaquery.evaluation.progress import progress as show_progress
from metaquery.evaluation.protocols import PROTOCOLS, Fold, folds
from metaquery.optimizers import optimizer, optimizer_class
from metaquery.optimizers.base import Optimizer
from metaquery.study import STALL_ASKS, Trajectory, clock, run, versions
from metaquery.types import Budget, Charging, Snap

if TYPE_CHECKING:
    from metaquery.benchmarks.base import Benchmark
    from metaquery.corpus import Corpus

Factory = Callable[..., Optimizer]

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
    metric: str | None = None,
    fold: int = 0,
    workers: int = 1,
    charging: Charging = "resume",
    snap: Snap | None = None,
    out: str | Path | None = None,
    progress: bool = False,
) -> Evaluation:
    """Compare `optimizers` on the tables of `corpus`.

    `optimizers` are names, or a factory from seed to a new optimizer by label (for the same one with different
    options); one that has a parameter `history` is given the `History` of the training datasets as well. Every one of
    them runs with the seeds 0 to `seeds` - 1 on every test dataset of `protocol`; `datasets` limits the test datasets,
    `train` sets the training ones (see `protocols.folds`). `metric` is the corpus's `default_metric` unless given,
    `snap` as in `metaquery.run`. With `out`, the report is written there. Bad arguments are refused before the first
    study runs.

    Where the corpus has no test values of the metric, as imported ones may, only validation is reported.
    """
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise InvalidInput(f"seeds must be a positive integer, got {seeds!r}")
    factories = _factories(optimizers)
    if out is not None:
        Evaluation.check_output(out)
    families = _families(corpus)
    plan = folds(protocol, families, datasets, train)
    make = _Maker(factories, plan, Histories(corpus, metric, fold, seed=0))
    examples = {label: make(label, item, 0) for item in plan for label in factories}
    benches = {f.test: corpus.benchmark(f.test, kind="tabular", metric=metric, fold=fold, seed=0) for f in plan}
    splits = SPLITS if any(_has_test(bench) for bench in benches.values()) else SPLITS[:1]
    ranges = {dataset: _ranges(bench, splits) for dataset, bench in benches.items()}

    rows: list[dict[str, Any]] = []
    studies: list[dict[str, Any]] = []
    configs: dict[str, dict[str, Any]] = {}
    with show_progress(len(plan) * len(factories) * seeds, shown=progress) as advance:
        for item, label, seed in product(plan, factories, range(seeds)):
            dataset, bench = item.test, benches[item.test]
            trajectory = run(make(label, item, seed), bench, budget, workers, charging, snap)
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
            {"label": label, **{key: value for key, value in example.stamp.items() if key not in ("seed", "history")}}
            for label, example in examples.items()
        ],
        "seeds": list(range(seeds)),
        "budget": asdict(budget),
        "workers": workers,
        "charging": charging,
        "snap": snap,
        "splits": list(splits),
        "clock": clock(first),
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
    if optimizer_class(name).needs_history:
        return lambda seed, history: optimizer(name, seed=seed, history=history)
    return lambda seed: optimizer(name, seed=seed)


class _Maker:
    """Makes optimizers, those that learn from other datasets with what the fold lets them learn from."""

    def __init__(self, factories: Mapping[str, Factory], plan: Sequence[Fold], histories: Histories) -> None:
        self._factories = factories
        self._learners = {label for label, made in factories.items() if "history" in signature(made).parameters}
        self._histories = {item: histories.of(item.test, item.train) for item in plan} if self._learners else {}

    def __call__(self, label: str, item: Fold, seed: int) -> Optimizer:
        if label in self._learners:
            return self._factories[label](seed, history=self._histories[item])
        return self._factories[label](seed)


def _families(corpus: Corpus) -> dict[str, str]:
    columns = corpus.table("datasets", ["dataset", "family"]).to_pydict()
    return dict(zip(columns["dataset"], columns["family"], strict=True))


def _has_test(bench: Benchmark) -> bool:
    return any(np.isfinite(bench.curve(config).test).any() for config in bench.configs or ())


def _ranges(bench: Benchmark, splits: Sequence[str]) -> dict[str, _Range]:
    """Best and worst loss over all epochs of all configs, by split."""
    curves = [bench.curve(config) for config in bench.configs or ()]
    ranges = {}
    for split in splits:
        losses = [c.test if split == "test" else c.value for c in curves]
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
    """One row per incumbent; an undefined test value has the regret of the worst one, where the table has others."""
    losses = {
        "validation": np.array([item.value for item in trajectory.incumbents]),
        "test": np.array([item.test for item in trajectory.incumbents]),
    }
    regrets = {}
    for split in ranges:
        best, worst, loss = ranges[split].best, ranges[split].worst, losses[split]
        regrets[split] = normalised_regret(np.where(np.isnan(loss), worst, loss), best, worst)
    return [
        {
            "clock_seconds": item.clock_seconds,
            "epochs": item.epochs,
            "evaluations": item.evaluations,
            "validation": bench.metric.from_loss(item.value),
            "test": None if math.isnan(item.test) else bench.metric.from_loss(item.test),
            "validation_regret": float(regrets["validation"][i]),
            "test_regret": float(regrets["test"][i]) if "test" in regrets else None,
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
        "mean_distance": float(np.mean([step.distance for step in trajectory.steps])) if trajectory.steps else 0.0,
    }
