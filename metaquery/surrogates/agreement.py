"""Whether optimizers rank on a surrogate as they do on the table it stands for.

Leave one optimizer out: the surrogate that an optimizer runs on has learned only from the trials that the others
visited, so that it cannot have been fitted to what this one will ask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaquery.benchmarks.tabular import TabularBenchmark
from metaquery.errors import InvalidInput
from metaquery.optimizers import optimizer
from metaquery.space import Config
from metaquery.study import run
from metaquery.surrogates.model import Surrogate
from metaquery.surrogates.training import fit
from metaquery.surrogates.trials import Floats, read_trials
from metaquery.types import Budget, Curve

if TYPE_CHECKING:
    from metaquery.corpus import Corpus

OPTIMIZERS = ("random", "one_epoch_topk", "successive_halving", "hyperband", "asha", "bohb")
_MOMENTS = 10  # of the budget at which the incumbent is looked at
_RESAMPLES = 1000
_SHARE = 8  # the budget is the epochs of one in so many configs


@dataclass(frozen=True)
class Agreement:
    """Mean normalised regrets (datasets, optimizers) on the table and on surrogates; `agreement` is Spearman's rank
    correlation of the optimizers' mean ranks with a bootstrap interval over datasets, and `ceiling` that of the table
    with itself under other seeds. `course` are the optimizers' mean ranks at each of `moments`, shares of the budget,
    on the table and on surrogates, (2, moments, optimizers)."""

    metric: str
    optimizers: tuple[str, ...]
    datasets: tuple[str, ...]
    seeds: int
    table: Floats
    surrogate: Floats
    agreement: float
    interval: tuple[float, float]
    ceiling: float
    moments: tuple[float, ...]
    course: Floats

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {**vars(self), **{name: getattr(self, name).tolist() for name in ("table", "surrogate", "course")}}

    def to_markdown(self) -> str:
        """Mean ranks on the table and on surrogates side by side, at every share of the budget."""
        heads = [f"{name} ({kind})" for name in self.optimizers for kind in ("table", "surrogate")]
        rows = [
            " | ".join([f"{moment:.0%}", *(f"{rank:.2f}" for rank in self.course[:, place].T.ravel())])
            for place, moment in enumerate(self.moments)
        ]
        low, high = self.interval
        return "\n".join(
            [
                f"## Mean ranks of optimizers by {self.metric}, on the table and on surrogates",
                "",
                f"Over {len(self.datasets)} datasets and {self.seeds} seeds, by normalised regret; each optimizer runs "
                "on a surrogate that learned only from what the others visited. Spearman's correlation of the mean "
                f"ranks over the whole budget is {self.agreement:.3f} (95 % {low:.3f} to {high:.3f}); of the table "
                f"with itself under other seeds it is {self.ceiling:.3f}.",
                "",
                f"| share of budget | {' | '.join(heads)} |",
                f"|{' --- |' * (len(heads) + 1)}",
                *(f"| {row} |" for row in rows),
                "",
            ]
        )

    def __str__(self) -> str:
        ranks = [_mean_ranks(regrets) for regrets in (self.table, self.surrogate)]
        rows = [
            f"  {name:20} {a:6.2f} {b:10.2f}" for name, a, b in zip(self.optimizers, ranks[0], ranks[1], strict=True)
        ]
        low, high = self.interval
        return "\n".join(
            [
                f"{self.metric}: mean rank of optimizers over {len(self.datasets)} datasets and {self.seeds} seeds, "
                "leave-one-optimizer-out",
                f"  {'optimizer':20} {'table':>6} {'surrogate':>10}",
                *rows,
                f"  rank correlation {self.agreement:.3f} (95 % {low:.3f} to {high:.3f}); "
                f"of the table with other seeds {self.ceiling:.3f}",
            ]
        )


def agree(
    corpus: Corpus,
    metric: str | None = None,
    optimizers: Sequence[str] = OPTIMIZERS,
    seeds: int = 5,
    say: Callable[[str], None] = lambda _line: None,
) -> Agreement:
    """Compare the rankings of `optimizers` on every dataset's first fold, each with `seeds` seeds and an eighth of the
    epochs of its table; raises InvalidInput for fewer than 3 optimizers."""
    if len(set(optimizers)) < 3 or seeds < 1:
        raise InvalidInput(f"a ranking needs 3 different optimizers and a seed, got {list(optimizers)} and {seeds}")
    trials = read_trials(corpus, corpus.default_metric if metric is None else metric)
    first = {task.dataset: (position, task.fold) for position, task in reversed(list(enumerate(trials.tasks)))}
    tables = {
        name: _as_table(corpus.benchmark(name, "tabular", trials.metric, fold)) for name, (_, fold) in first.items()
    }
    regrets = np.empty((2, len(tables), len(optimizers), seeds, _MOMENTS))  # with these seeds, and with others
    visited: dict[str, set[tuple[int, str]]] = {name: set() for name in optimizers}
    for column, name in enumerate(optimizers):
        for row, (dataset, table) in enumerate(tables.items()):
            for half in range(2):
                for seed in range(seeds):
                    regrets[half, row, column, seed], seen = _regret(table, name, seed + half * seeds)
                    visited[name] |= {(first[dataset][0], config_id) for config_id in seen}
        say(f"{trials.metric}: {name} on {len(tables)} tables done")
    keys = list(zip(trials.task.tolist(), [config.config_id for config in trials.configs], strict=True))
    on_surrogate = np.empty(regrets.shape[1:])
    for column, name in enumerate(optimizers):
        others = set().union(*(visited[other] for other in optimizers if other != name))
        learned = fit(trials.take(np.array([row for row, key in enumerate(keys) if key in others])))
        for row, (dataset, table) in enumerate(tables.items()):
            stand_in = _predicted(table, learned, first[dataset][0])
            for seed in range(seeds):
                on_surrogate[row, column, seed], _ = _regret(stand_in, name, seed)
        say(f"{trials.metric}: {name} on surrogates of what the others visited done")
    table_means, other_means = regrets.mean(axis=(3, 4))
    surrogate_means = on_surrogate.mean(axis=(2, 3))
    by_moment = [runs.mean(axis=2).transpose(2, 0, 1) for runs in (regrets[0], on_surrogate)]
    draws = np.random.default_rng(0).integers(0, len(tables), (_RESAMPLES, len(tables)))
    resampled = [_correlation(table_means[rows], surrogate_means[rows]) for rows in draws]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Agreement(
        trials.metric,
        tuple(optimizers),
        tuple(tables),
        seeds,
        table_means,
        surrogate_means,
        _correlation(table_means, surrogate_means),
        (float(low), float(high)),
        _correlation(table_means, other_means),
        tuple((np.arange(_MOMENTS) + 1.0) / _MOMENTS),
        np.array([[_mean_ranks(moment) for moment in moments] for moments in by_moment]),
    )


def _as_table(bench: object) -> TabularBenchmark:
    assert isinstance(bench, TabularBenchmark)
    return bench


def _predicted(table: TabularBenchmark, surrogate: Surrogate, task: int) -> TabularBenchmark:
    """`table` with the curves that `surrogate` predicts in place of its own."""
    curves: Mapping[Config, Curve] = {config: surrogate.curve(config, task) for config in table.configs}
    return TabularBenchmark(
        curves,
        dataset=table.dataset,
        space=table.space,
        full_space=table.open_space,
        metric=table.metric,
        epochs=table.epochs,
        fold=table.fold,
        seed=table.seed,
        source=table.source,
        has_costs=table.has_costs,
    )


def _regret(bench: TabularBenchmark, name: str, seed: int) -> tuple[Floats, set[str]]:
    """The normalised regret of the incumbent at _MOMENTS shares of the budget, and the ids of the visited configs."""
    epochs = max(2 * bench.epochs, len(bench.configs) * bench.epochs // _SHARE)
    trajectory = run(optimizer(name, seed=seed), bench, Budget(epochs=epochs))
    values = np.concatenate([bench.curve(config).value for config in bench.configs])
    finite = values[np.isfinite(values)]
    best, worst = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, bench.metric.worst_loss)
    since = np.array([item.epochs for item in trajectory.incumbents])
    losses = np.array([worst, *(item.value for item in trajectory.incumbents)])
    at = np.searchsorted(since, np.linspace(epochs / _MOMENTS, epochs, _MOMENTS), side="right")
    visited = {step.config.config_id for step in trajectory.steps}
    return (losses[at] - best) / (worst - best) if worst > best else np.zeros(_MOMENTS), visited


def _mean_ranks(regrets: Floats) -> Floats:
    """The mean over datasets of the rank of each optimizer, (optimizers,), from regrets (datasets, optimizers)."""
    from scipy.stats import rankdata

    ranks: Floats = rankdata(regrets, axis=1).mean(axis=0)
    return ranks


def _correlation(one: Floats, other: Floats) -> float:
    """Spearman's correlation of mean ranks; 0 where all optimizers are the same."""
    from scipy.stats import rankdata

    ranks: list[NDArray[np.float64]] = [rankdata(_mean_ranks(regrets)) for regrets in (one, other)]
    if any(np.ptp(rank) == 0.0 for rank in ranks):
        return 0.0
    return float(np.corrcoef(ranks)[0, 1])
