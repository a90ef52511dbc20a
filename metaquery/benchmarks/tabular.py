"""The grid trials of a corpus as a benchmark: exact answers, and only for configs that were really run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from metaquery.benchmarks.base import Benchmark
from metaquery.distance import Distances
from metaquery.errors import CorpusError, InvalidConfig, InvalidInput, UnknownName
from metaquery.metrics import Metric
from metaquery.metrics import metric as metric_called
from metaquery.space import Config, SearchSpace, Value
from metaquery.types import EPOCHLESS_FAMILY, Curve, Observation, Status

if TYPE_CHECKING:
    from metaquery.corpus import Corpus

_SOUND_ENDS = (Status.COMPLETED, Status.EARLY_STOPPED)
_NEAREST = 3


class TabularBenchmark(Benchmark):
    """One dataset, fold and seed of a corpus. `space` is the corpus's core grid over the backbones that were run."""

    kind: ClassVar[str] = "tabular"

    def __init__(
        self,
        curves: Mapping[Config, Curve],
        *,
        dataset: str,
        space: SearchSpace,
        full_space: SearchSpace,
        metric: Metric,
        epochs: int,
        fold: int,
        seed: int,
        source: str,
    ) -> None:
        """Serve `curves`, whose configs lie in `space`, itself the grid of `full_space`."""
        super().__init__(
            dataset=dataset, space=space, metric=metric, epochs=epochs, fold=fold, seed=seed, source=source
        )
        self._full_space = full_space
        self._configs = tuple(curves)
        self._curves = {config.config_id: curve for config, curve in curves.items()}
        self._row = {config.config_id: row for row, config in enumerate(curves)}
        self._run = [curve.epochs_run for curve in curves.values()]
        self._value = [curve.value.tolist() for curve in curves.values()]
        self._cost = [
            [float(curve.seconds[:epoch].sum()) for epoch in range(1, curve.epochs_run + 1)]
            for curve in curves.values()
        ]
        self._ended = [
            Observation(math.nan, float(curve.seconds.sum()) + curve.failure_seconds, curve.status)
            for curve in curves.values()
        ]

    @classmethod
    def from_corpus(cls, corpus: Corpus, *, dataset: str, metric: str, fold: int, seed: int) -> TabularBenchmark:
        """The grid trials of `corpus`; raises UnknownName for an unknown dataset, metric, fold or seed.

        Validation and test values are the corpus's single-precision metrics. A failed trial's `failure_seconds` is
        its `total_seconds` less the seconds of its finished epochs. The one record of a config without epochs becomes
        a curve by `Curve.without_epochs`.
        """
        measure = metric_called(metric)
        names = [f"val_{metric}", f"test_{metric}", "train_seconds", "eval_seconds"]
        trials, rows = corpus.curves(dataset, fold, names)
        val, test, train, evaluation = (rows[name].to_numpy().astype(np.float64) for name in names)
        ends = np.cumsum(trials["epochs_run"].to_numpy())
        grid = {config.config_id: config for config in corpus.space.core().grid()}
        in_grid = _grid_ids(corpus)
        epochless = _epochless(corpus)
        found: dict[str, Curve] = {}
        seeds = set()
        for trial, end in zip(trials.to_pylist(), ends.tolist(), strict=True):
            if trial["config_id"] not in in_grid:
                continue
            seeds.add(trial["seed"])
            if trial["seed"] == seed:
                if trial["config_id"] not in grid:
                    raise CorpusError(
                        f"trial {trial['trial_id']} is not on the grid of space.json: run  metaquery verify"
                    )
                epochs = slice(end - trial["epochs_run"], end)
                seconds = train[epochs] + evaluation[epochs]
                status = Status(trial["status"])
                lost = 0.0 if status in _SOUND_ENDS else max(0.0, trial["total_seconds"] - float(seconds.sum()))
                planned = trial["epochs_planned"]
                losses, test_losses = _losses(measure, val[epochs]), _losses(measure, test[epochs])
                if len(losses) and grid[trial["config_id"]].get("backbone") in epochless:
                    value, test_value, cost = float(losses[0]), float(test_losses[0]), float(seconds[0])
                    found[trial["config_id"]] = Curve.without_epochs(value, test_value, cost, status, planned)
                else:
                    found[trial["config_id"]] = Curve(losses, test_losses, seconds, status, planned, lost)
        if not seeds:
            raise InvalidInput(
                f"{dataset} fold {fold} has no grid trials in corpus {corpus.name}: no table can be made of it"
            )
        if seed not in seeds:
            raise UnknownName.of(f"seed of {dataset} fold {fold}", seed, map(str, sorted(seeds)))
        configs = [config for config_id, config in grid.items() if config_id in found]
        space = corpus.space.core()
        if "backbone" in space.by_name:
            present = {config["backbone"] for config in configs}
            space = space.restrict("backbone", [b for b in space["backbone"].choices if b in present])
        return cls(
            {config: found[config.config_id] for config in configs},
            dataset=dataset,
            space=space,
            full_space=corpus.space,
            metric=measure,
            epochs=corpus.epochs,
            fold=fold,
            seed=seed,
            source=corpus.hash,
        )

    @property
    def configs(self) -> tuple[Config, ...]:
        """The evaluated configs, in the order of the grid."""
        return self._configs

    def _check(self, config: Mapping[str, Value]) -> Config:
        if isinstance(config, Config) and config.config_id in self._row:
            return config
        checked = self._full_space.config(config)
        if checked.config_id not in self._row:
            nearest = "; ".join(map(repr, self._nearest(checked)))
            raise InvalidConfig(
                f"{checked} is not in the table of {self.dataset}, fold {self.fold}, seed {self.seed}: expected one of "
                f"its {len(self._configs)} configs (see .configs), the nearest are {nearest}"
            )
        return checked

    def _curve(self, config: Config) -> Curve:
        return self._curves[config.config_id]

    def _query(self, config: Config, epoch: int) -> Observation:
        row = self._row[config.config_id]
        if epoch <= self._run[row]:
            return Observation(self._value[row][epoch - 1], self._cost[row][epoch - 1], Status.COMPLETED)
        return self._ended[row]

    def _nearest(self, config: Config) -> list[Config]:
        """The evaluated configs nearest to `config`, the first of the grid on ties."""
        order = Distances(self._full_space, self._configs)(config).argsort(kind="stable")
        return [self._configs[row] for row in order[:_NEAREST]]


def _grid_ids(corpus: Corpus) -> set[str]:
    configs = corpus.table("configs", ["config_id", "design"]).to_pydict()
    return {i for i, design in zip(configs["config_id"], configs["design"], strict=True) if design == "grid"}


def _epochless(corpus: Corpus) -> set[Value]:
    backbones = corpus.table("backbones", ["backbone", "family"]).to_pydict()
    pairs = zip(backbones["backbone"], backbones["family"], strict=True)
    return {backbone for backbone, family in pairs if family == EPOCHLESS_FAMILY}


def _losses(measure: Metric, values: Iterable[float]) -> NDArray[np.float64]:
    return np.array([measure.to_loss(value) for value in values], dtype=np.float64)
