"""A learned surrogate of a corpus as a benchmark: for any config of the space, what training it would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from metaquery.benchmarks.base import Benchmark
from metaquery.errors import InvalidConfig, InvalidInput
from metaquery.space import Config, Distances, SearchSpace, Value
from metaquery.surrogates.model import Surrogate
from metaquery.surrogates.store import find
from metaquery.surrogates.trials import configs_of, losses_of
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
        found = self.surrogate.one(checked, self._task)
        if self.metric.logarithmic:  # what is small of a logarithm is as small in proportion to the loss
            deviations = deviations * losses_of(found.curves[0, :2], self.metric)
        distance = float(self._distances(checked).min())
        return Prediction(
            self._curve(checked),
            deviations[0],
            deviations[1],
            float(self.surrogate.ends.failure_probability(found.logits)[0]),
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
        try:
            self._curve(config)  # finding its knots is the check
        except InvalidConfig:
            return False
        return True

    def _curve(self, config: Config) -> Curve:
        known = self._curves.get(config.config_id)
        if known is None:
            if self._tried is not None and config.get("backbone") not in self._tried:
                raise _untried()
            known = self.surrogate.curve(config, self._task, self.seed if self._noise else None)
            self._curves[config.config_id] = known
        return known

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

    def _query_unchecked(self, configs: Sequence[Mapping[str, Value]], epochs: NDArray[np.int64]) -> Observations:
        if not self._noise and set(map(type, configs)) == {Config}:
            try:
                return self._predicted(cast("Sequence[Config]", configs), epochs)
            except InvalidConfig:
                pass  # the way around says which of them, and why
        return super()._query_unchecked(configs, epochs)

    def _predicted(self, configs: Sequence[Config], epochs: NDArray[np.int64]) -> Observations:
        """What `_query_batch` gives, without a curve for each; InvalidConfig where one does not fit the space."""
        n, last = len(configs), self.epochs - 1
        until = np.tri(self.epochs, dtype=np.float32)  # the epochs that are paid for by each
        found = Observations(np.empty(n), np.empty(n), np.empty(n, np.uint8))
        ends = self.surrogate.ends
        statuses = np.array([STATUSES.index(status) for status in ends.statuses], np.uint8)
        for rows, weights, outputs in self.surrogate.batches(configs, self._task):
            if weights[:, self._untried].any():
                raise _untried()
            wanted = epochs[rows]
            end, ran = ends.likeliest(outputs.logits, outputs.log_epochs)
            beyond = wanted > ran
            failed = beyond & ~ends.sound[end]
            at = np.minimum(wanted, ran) - 1
            at_value, at_cost = at, np.where(failed, ran, at)
            if self._epochless:
                whole = weights[:, self._epochless].any(axis=1) & (ran == self.epochs)
                at_value, at_cost = np.where(whole, last, at), np.where(whole, 0, at_cost)
            each = np.arange(len(weights))
            value = losses_of(outputs.curves[each, 0, at_value], self.metric)
            seconds = outputs.curves[:, 2] + outputs.curves[:, 3]
            found.value[rows] = np.where(failed, np.nan, value)
            found.cost_seconds[rows] = np.einsum("ij,ij->i", seconds, until[at_cost], dtype=np.float64)
            found.status[rows] = np.where(beyond, statuses[end], np.uint8(_COMPLETED))
        return found

    @cached_property
    def _untried(self) -> list[int]:
        """The knots of the backbones that `space` does not have."""
        if self._tried is None:
            return []
        others = set(self.surrogate.space["backbone"].choices) - set(self._tried)
        return self.surrogate.knots_of("backbone", others)

    @cached_property
    def _epochless(self) -> list[int]:
        return self.surrogate.knots_of("backbone", self.surrogate.epochless)


def _untried() -> InvalidConfig:
    return InvalidConfig("a config has a backbone that was not tried here")


def _over_backbones(surrogate: Surrogate, dataset: str) -> SearchSpace:
    """The surrogate's space with no other backbones than those that were tried on `dataset`."""
    tried = surrogate.knowledge.backbones.get(dataset)
    return surrogate.space if tried is None else surrogate.space.restrict("backbone", tried)
