"""A benchmark as the objective of an Optuna study."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from metaquery.errors import MissingExtra
from metaquery.optimizers.optuna import suggest
from metaquery.space import Distances

if TYPE_CHECKING:
    from metaquery.benchmarks.base import Benchmark


def objective(bench: Benchmark) -> Callable[[Any], float]:
    """A function for `study.optimize`, to be minimised: the validation loss after the last epoch.

    Every epoch is reported, so that a pruner can stop the trial. A trial that failed on the benchmark returns NaN,
    which Optuna records as a failure. On a table, the nearest config stands for one that is not in it. The attributes
    of a trial say `config_id`, `epoch`, `cost_seconds` and `status`.
    """
    try:
        from optuna import TrialPruned
    except ImportError:
        raise MissingExtra.of("optuna", "optuna") from None

    table = bench.configs
    distances = None if table is None else Distances(bench.space, table)

    def evaluate(trial: Any) -> float:
        config = suggest(trial, bench.space)
        if table is not None and distances is not None:
            config = table[int(distances(config).argmin())]
        trial.set_user_attr("config_id", config.config_id)
        value = math.nan
        for epoch in range(1, bench.epochs + 1):
            observation = bench.query(config, epoch)
            value = observation.value
            trial.set_user_attr("epoch", epoch)
            trial.set_user_attr("cost_seconds", observation.cost_seconds)
            trial.set_user_attr("status", str(observation.status))
            if not observation.ok:
                return math.nan
            trial.report(value, epoch)
            if epoch < bench.epochs and trial.should_prune():
                raise TrialPruned
        return value

    return evaluate
