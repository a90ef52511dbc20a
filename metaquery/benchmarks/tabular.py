"""The grid or the pool of a corpus as a benchmark: exact answers, and only for configs that were really run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metaquery.benchmarks.base import Benchmark
from metaquery.errors import CorpusError, InvalidConfig, InvalidInput, UnknownName
from metaquery.metrics import Metric
from metaquery.metrics import metric as metric_called
from metaquery.space import Config, Distances, SearchSpace, Value
from metaquery.types import EPOCHLESS_FAMILY, SOUND, STATUSES, Curve, Observation, Observations, Outcome, Status, make

if TYPE_CHECKING:
    import pyarrow as pa

    from metaquery.corpus import Corpus

_COMPLETED = STATUSES.index(Status.COMPLETED)
_DESIGNS = ("grid", "pool")  # what a table is made of; single points of a space-filling design are for surrogates
_NEAREST = 3


class TabularBenchmark(Benchmark):
    """One dataset, fold and seed of a corpus.

    Of a grid, `space` is the corpus's core grid over the backbones that were run, and all of it can be asked for (but
    for trials that are missing). Of a pool, which an imported corpus has, it is the full space over these backbones, of
    which `configs` are scattered points.

    A config without a trial of this fold and seed is not in the table: it is refused, and the nearest that are there
    are named. A trial that failed is in it: up to its last finished epoch it answers like any other, and beyond that
    with NaN, its status, and all that it spent, the seconds lost in the unfinished epoch included. One that stopped
    early by its own rule answers with its last value, at no further cost. Nothing is imputed.
    """

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
        has_costs: bool = True,
    ) -> None:
        """Serve `curves`, whose configs lie in `space`, itself all of `full_space` or a part of it."""
        super().__init__(
            dataset=dataset, space=space, metric=metric, epochs=epochs, fold=fold, seed=seed, source=source
        )
        self._full_space = full_space
        self._has_costs = has_costs
        self._configs = tuple(curves)
        self._curves = {config.config_id: curve for config, curve in curves.items()}
        self._row = {config.config_id: row for row, config in enumerate(curves)}
        self._value, self._test, self._cost = (np.empty((len(curves), epochs)) for _ in range(3))
        self._run = [curve.epochs_run for curve in curves.values()]
        self._status = np.empty((len(curves), epochs), np.uint8)
        for row, curve in enumerate(curves.values()):
            run = curve.epochs_run
            self._value[row, :run], self._test[row, :run] = curve.value, curve.test
            np.cumsum(curve.seconds, out=self._cost[row, :run])
            self._status[row, :run] = _COMPLETED
            if run < epochs:
                ended, last = self._observed(curve, run + 1), curve.stands(run + 1)
                self._value[row, run:], self._cost[row, run:] = ended.value, ended.cost_seconds
                self._test[row, run:] = np.nan if last is None else curve.test[last]
                self._status[row, run:] = STATUSES.index(ended.status)
        # An item of a memory view is a plain number, several times faster than an array's.
        self._views = self._value.reshape(-1).data, self._cost.reshape(-1).data, self._status.reshape(-1).data
        self._tests = self._test.reshape(-1).data

    @classmethod
    def from_corpus(cls, corpus: Corpus, *, dataset: str, metric: str, fold: int, seed: int) -> TabularBenchmark:
        """The grid of `corpus`, or its pool; raises UnknownName for an unknown dataset, metric, fold or seed.

        Validation and test values are the corpus's single-precision metrics, test values NaN where it has none. A
        failed trial's `failure_seconds` is its `total_seconds` less the seconds of its finished epochs. The one record
        of a config without epochs becomes a curve by `Curve.without_epochs`. Full fidelity is the largest number of
        epochs that a trial was planned for.
        """
        measure = metric_called(metric)
        here, trials = corpus.trials(dataset, fold)
        known, is_grid = _configs(corpus, trials["config_id"])
        seeds = set()
        mine: list[tuple[int, dict[str, Any]]] = []
        for position, trial in enumerate(trials.to_pylist()):
            if trial["config_id"] in known:
                seeds.add(trial["seed"])
                if trial["seed"] == seed:
                    mine.append((position, trial))
        if not seeds:
            raise InvalidInput(
                f"{dataset} fold {fold} has no grid trials in corpus {corpus.name}: no table can be made of it"
            )
        if seed not in seeds:
            raise UnknownName.of(f"seed of {dataset} fold {fold}", seed, map(str, sorted(seeds)))
        spans = corpus.spans()[here]
        names = (f"val_{metric}", f"test_{metric}", "train_seconds", "eval_seconds")
        val, test, train, evaluation = (corpus.dense(name)[here].astype(np.float64) for name in names)
        if corpus.imported and not np.isfinite(val).any():
            raise InvalidInput(
                f"{dataset} fold {fold} has no validation values of {metric} in corpus {corpus.name}: "
                f"use another metric, such as {corpus.default_metric}"
            )
        epoch, (first, last) = np.arange(train.shape[1]), (edge[:, None] for edge in spans.T)
        has_costs = not np.isnan(train[(epoch >= first) & (epoch < last)]).any()
        seconds = train + np.nan_to_num(evaluation) if has_costs else np.ones_like(train)
        val, test = measure.to_loss(val), measure.to_loss(test)
        epochless = _epochless(corpus)
        found: dict[str, Curve] = {}
        for position, trial in mine:
            status, planned = Status(trial["status"]), trial["epochs_planned"]
            losses, tests, cost = (values[position, slice(*spans[position])] for values in (val, test, seconds))
            if len(losses) and known[trial["config_id"]].get("backbone") in epochless:
                once = float(losses[0]), float(tests[0]), float(cost[0])
                found[trial["config_id"]] = Curve.without_epochs(*once, status, planned)
            else:
                total = trial["total_seconds"] if has_costs else None
                lost = 0.0 if status in SOUND or total is None else max(0.0, total - float(cost.sum()))
                found[trial["config_id"]] = Curve(losses, tests, cost, status, planned, lost)
        configs = [config for config_id, config in known.items() if config_id in found]
        space = corpus.space.core() if is_grid else corpus.space
        return cls(
            {config: found[config.config_id] for config in configs},
            dataset=dataset,
            space=_over_backbones(space, configs),
            full_space=corpus.space,
            metric=measure,
            epochs=max(trial["epochs_planned"] for _, trial in mine),
            fold=fold,
            seed=seed,
            source=corpus.hash,
            has_costs=has_costs,
        )

    @property
    def configs(self) -> tuple[Config, ...]:
        """The evaluated configs, in the order of the grid, or of their ids in a pool."""
        return self._configs

    @property
    def open_space(self) -> SearchSpace:
        """All of the corpus's space, over the backbones that were run."""
        return _over_backbones(self._full_space, self._configs)

    @property
    def has_costs(self) -> bool:
        """Whether the corpus has costs; an imported one may have none."""
        return self._has_costs

    def query(self, config: Mapping[str, Value], epoch: int) -> Observation:
        """As of every benchmark. Of a Config that is in the table, nothing else is called: that would take longer."""
        row = self._row.get(config.config_id) if type(config) is Config else None
        if row is None or type(epoch) is not int or not 0 < epoch <= self.epochs:
            return super().query(config, epoch)
        at = row * self.epochs + epoch - 1
        value, cost, status = self._views
        return make(Observation, (value[at], cost[at], STATUSES[status[at]]))

    def evaluate(self, config: Mapping[str, Value], epoch: int) -> Outcome:
        """As of every benchmark; see `query`."""
        row = self._row.get(config.config_id) if type(config) is Config else None
        if row is None or type(epoch) is not int or not 0 < epoch <= self.epochs:
            return super().evaluate(config, epoch)
        at = row * self.epochs + epoch - 1
        value, cost, status = self._views
        ran = self._run[row]
        observation = make(Observation, (value[at], cost[at], STATUSES[status[at]]))
        return make(Outcome, (observation, self._tests[at], epoch if epoch < ran else ran))

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

    def _query_batch(self, configs: Sequence[Config], epochs: NDArray[np.int64]) -> Observations:
        return self._query_rows(np.array([self._row[config.config_id] for config in configs], np.int64), epochs)

    def _query_rows(self, rows: NDArray[np.integer[Any]], epochs: NDArray[np.int64]) -> Observations:
        at = rows * np.int64(self.epochs) + (epochs - 1)
        return Observations(
            self._value.take(at, mode="clip"), self._cost.take(at, mode="clip"), self._status.take(at, mode="clip")
        )

    def _nearest(self, config: Config) -> list[Config]:
        """The evaluated configs nearest to `config`, the first of the grid on ties."""
        order = Distances(self._full_space, self._configs)(config).argsort(kind="stable")
        return [self._configs[row] for row in order[:_NEAREST]]


def _configs(corpus: Corpus, tried: pa.ChunkedArray) -> tuple[dict[str, Config], bool]:
    """The configs that a table can be made of by id, in their order, and whether they are a grid.

    The corpus's grid where only grid points are among those `tried`; else the pool of these. Raises CorpusError for a
    config that is not of the space, or not on the grid that it is said to be of.
    """
    import pyarrow.compute as pc

    rows = corpus.table("configs").filter(pc.field("config_id").isin(tried.unique()))
    rows = rows.filter(pc.field("design").isin(_DESIGNS))
    if not pc.any(pc.equal(rows["design"], "pool")).as_py():
        grid = {config.config_id: config for config in corpus.space.core().grid()} if len(rows) else {}
        for config_id in rows["config_id"].to_pylist():
            if config_id not in grid:
                raise CorpusError(f"config {config_id} is not on the grid of space.json: run  metaquery verify")
        return {
            config_id: grid[config_id] for config_id in grid if config_id in set(rows["config_id"].to_pylist())
        }, True
    pool = {}
    for row in rows.to_pylist():
        config_id = row.pop("config_id")
        try:
            pool[config_id] = corpus.space.config({n: v for n, v in row.items() if n != "design" and v is not None})
        except InvalidInput as error:
            raise CorpusError(f"config {config_id} is not of space.json ({error}): run  metaquery verify") from error
        if pool[config_id].config_id != config_id:
            raise CorpusError(f"config {config_id} is not what its id says: run  metaquery verify")
    return pool, False


def _over_backbones(space: SearchSpace, configs: Sequence[Config]) -> SearchSpace:
    """`space` with no other backbones than those of `configs`."""
    if "backbone" not in space.by_name:
        return space
    present = {config["backbone"] for config in configs}
    return space.restrict("backbone", [b for b in space["backbone"].choices if b in present])


def _epochless(corpus: Corpus) -> set[Value]:
    backbones = corpus.table("backbones", ["backbone", "family"]).to_pydict()
    pairs = zip(backbones["backbone"], backbones["family"], strict=True)
    return {backbone for backbone, family in pairs if family == EPOCHLESS_FAMILY}
