"""How well a configuration that is best on one dataset does on another: the cross-dataset generalisation matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metaquery.evaluation.reference import Reference, losses_of
from metaquery.optimizers.history import DatasetHistory
from metaquery.space import Config

if TYPE_CHECKING:
    from metaquery.benchmarks.base import Benchmark


def transfer(
    sources: Sequence[DatasetHistory], benches: Mapping[str, Benchmark], measured: Mapping[str, Reference], split: str
) -> dict[str, Any]:
    """The generalisation matrix as plain JSON: lists of lists (sources, targets), the targets being those of `benches`.

    For each pair, of the configs that both tables hold (`shared` of them) the one with the lowest validation loss on
    the source after full training, `config`; then what its full training on the target reaches on `split`: `value` in
    the metric's own direction, None where it failed there, and `regret`, normalised as the studies are, 1 where it
    failed. All three are None where the two share no config that finished on the source, or are of one family but not
    the same dataset, as what is chosen on the same patients is no generalisation. `configs` holds the values of the
    configs by id.
    """
    tables = {name: {config.config_id: config for config in bench.configs or ()} for name, bench in benches.items()}
    families = {source.dataset: source.family for source in sources}
    found: dict[str, list[list[Any]]] = {
        name: [[] for _ in sources] for name in ("shared", "config", "value", "regret")
    }
    configs: dict[str, dict[str, Any]] = {}
    for row, source in enumerate(sources):
        ranked = list(_ranked(source))
        own = {config.config_id for config in source.configs}
        for target, bench in benches.items():
            related = source.dataset != target and source.family == families[target]
            chosen = None if related else next((c for c in ranked if c.config_id in tables[target]), None)
            value = regret = None
            if chosen is not None:
                configs[chosen.config_id] = dict(chosen)
                curve = bench.curve(tables[target][chosen.config_id])
                last = curve.stands(bench.epochs)
                loss = float("nan") if last is None else float(losses_of(curve, split)[last])
                regret = float(measured[target].regret(split, np.array([loss]))[0])
                value = None if np.isnan(loss) else bench.metric.from_loss(loss)
            found["shared"][row].append(len(own & tables[target].keys()))
            found["config"][row].append(None if chosen is None else chosen.config_id)
            found["value"][row].append(value)
            found["regret"][row].append(regret)
    return {"sources": list(families), "families": families, "configs": configs, **found}


def _ranked(source: DatasetHistory) -> Iterator[Config]:
    """The configs that finished on `source`, the best on validation first."""
    last = source.losses[:, -1]
    for row in np.argsort(last, kind="stable"):  # NaN last
        if np.isnan(last[row]):
            return
        yield source.configs[row]
