"""A learned surrogate of a corpus as a benchmark: for any config of the space, what training it would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metaquery.benchmarks.base import Benchmark
from metaquery.errors import InvalidInput
from metaquery.space import Config, Distances, SearchSpace, Value
from metaquery.surrogates.model import SOUND, Surrogate
from metaquery.surrogates.store import find
from metaquery.surrogates.trials import configs_of
from metaquery.types import STATUSES, Curve, Observation, Observations, Status

if TYPE_CHECKING:
    from metaquery.corpus import Corpus

_COMPLETED = STATUSES.index(Status.COMPLETED)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a surrogate knows of a config: `curve`, the standard deviations of its losses for a single trial,
    `value_std` and `test_std` (epochs,), the probability that training fails, the distance to the nearest config that
    it learned from, and whether that is more than such configs have between each other."""

    curve: Curve
    value_std: NDArray[np.float64]
    test_std: NDArray[np.float64]
    failure_probability: float
    distance: float
    out_of_distribution: bool


class SurrogateBenchmark(Benchmark):
    """One dataset and fold of a corpus, for every config of `space`.

    A query gives the mean of trials over their seeds; with `noise`, one trial, which `seed` and the config determine.
    A trial fails where the surrogate holds that as likely as not (with `noise`: by drawing).
    """

    kind: ClassVar[str] = "surrogate"

    def __init__(
        self,
        surrogate: Surrogate,
        *,
        dataset: str,
        fold: int,
        seed: int,
        source: str,
        learned: Sequence[Config],
        noise: bool = False,
    ) -> None:
        """Serve `surrogate`, which was learned from the configs `learned` of the corpus with the hash `source`."""
        if noise and seed < 0:
            raise InvalidInput(f"a seed of noise must not be negative, got {seed}")
        self._task = surrogate.task(dataset, fold)
        super().__init__(
            dataset=dataset,
            space=_over_backbones(surrogate, dataset),
            metric=surrogate.metric,
            epochs=surrogate.epochs,
            fold=fold,
            seed=seed,
            source=source,
        )
        self.surrogate = surrogate
        self._noise = noise
        self._learned = learned
        self._tried = surrogate.knowledge.backbones.get(dataset)
        self._curves: dict[str, Curve] = {}
        self._answers: dict[str, tuple[list[float], list[float], Observation | None]] = {}

    @classmethod
    def from_corpus(
        cls,
        corpus: Corpus,
        *,
        dataset: str,
        metric: str,
        fold: int,
        seed: int,
        file: str | Path | None = None,
        noise: bool = False,
    ) -> SurrogateBenchmark:
        """The surrogate of `corpus`, from `file` or where `metaquery surrogate train` puts it."""
        surrogate = find(corpus, metric, file)
        return cls(
            surrogate,
            dataset=dataset,
            fold=fold,
            seed=seed,
            source=corpus.hash,
            learned=list(configs_of(corpus).values()),
            noise=noise,
        )

    @property
    def has_costs(self) -> bool:
        """Whether the corpus that it was learned from has costs."""
        return self.surrogate.has_costs

    @property
    def stamp(self) -> dict[str, Any]:
        """What identifies this benchmark on every result."""
        return {**super().stamp, "noise": self._noise, "surrogate": dict(self.surrogate.stamp)}

    def predict(self, config: Mapping[str, Value]) -> Prediction:
        """All that the surrogate knows of `config`; the standard deviations are those of a single trial."""
        checked = self._check(config)
        deviations = self.surrogate.deviation([checked], self._task)[0]
        ends = self.surrogate.one(checked, self._task).ends
        distance = float(self._distances(checked).min())
        return Prediction(
            self._curve(checked),
            deviations[0],
            deviations[1],
            float(self.surrogate.failure_probability(ends)[0]),
            distance,
            distance > self.surrogate.knowledge.threshold,
        )

    @cached_property
    def _distances(self) -> Distances:
        return Distances(self.surrogate.space, self._learned)

    def _check(self, config: Mapping[str, Value]) -> Config:
        if isinstance(config, Config) and (config.config_id in self._curves or self._fits(config)):
            return config
        return super()._check(config)

    def _fits(self, config: Config) -> bool:
        return (self._tried is None or config.get("backbone") in self._tried) and self.surrogate.fits(config)

    def _curve(self, config: Config) -> Curve:
        if config.config_id not in self._curves:
            self._curves[config.config_id] = self.surrogate.curve(
                config, self._task, self.seed if self._noise else None
            )
        return self._curves[config.config_id]

    def _query(self, config: Config, epoch: int) -> Observation:
        known = self._answers.get(config.config_id)
        if known is None:
            curve = self._curve(config)
            ended = None if curve.epochs_run == self.epochs else self._observed(curve, curve.epochs_run + 1)
            known = self._answers[config.config_id] = curve.value.tolist(), curve.seconds.cumsum().tolist(), ended
        values, costs, ended = known
        if ended is None or epoch <= len(values):
            return Observation(values[epoch - 1], costs[epoch - 1], Status.COMPLETED)
        return ended

    def _query_batch(self, configs: Sequence[Config], epochs: NDArray[np.int64]) -> Observations:
        epochless = self.surrogate.epochless
        if self._noise or not configs or any(config.get("backbone") in epochless for config in configs):
            return super()._query_batch(configs, epochs)
        found = self.surrogate.many(configs, self._task)
        end, ran = self.surrogate.outcome(found)
        failed = (epochs > ran) & ~np.array([status in SOUND for status in self.surrogate.knowledge.ends])[end]
        rows, at = np.arange(len(configs)), np.minimum(epochs, ran) - 1
        value = np.minimum(np.maximum(found.curves[rows, 0, at], 0.0), self.metric.worst_loss).astype(np.float64)
        spent = np.cumsum(found.curves[:, 2] + found.curves[:, 3], axis=1, dtype=np.float64)
        statuses = np.array([STATUSES.index(status) for status in self.surrogate.knowledge.ends], np.uint8)
        return Observations(
            np.where(failed, np.nan, value),
            spent[rows, np.where(failed, ran, at)],
            np.where(epochs > ran, statuses[end], np.uint8(_COMPLETED)),
        )


def _over_backbones(surrogate: Surrogate, dataset: str) -> SearchSpace:
    """The surrogate's space with no other backbones than those that were tried on `dataset`."""
    tried = surrogate.knowledge.backbones.get(dataset)
    return surrogate.space if tried is None else surrogate.space.restrict("backbone", tried)
