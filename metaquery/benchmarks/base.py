"""What every benchmark is: a search space and the learning curves of its configs, under one validating front."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from metaquery.errors import InvalidInput
from metaquery.metrics import Metric
from metaquery.space import Config, SearchSpace, Value
from metaquery.types import Curve, Observation, Status, Task


class Benchmark(ABC):
    """One dataset, fold and seed as an optimizer's problem.

    `query` and `curve` check their arguments once; a subclass writes `_curve` alone. Validation and test values
    come out as losses to minimise; `metric.from_loss` gives them back in the metric's own direction.
    """

    kind: ClassVar[str]

    def __init__(
        self, *, dataset: str, space: SearchSpace, metric: Metric, epochs: int, fold: int, seed: int, source: str
    ) -> None:
        self.dataset = dataset
        self.space = space
        self.metric = metric
        self.epochs = epochs
        self.fold = fold
        self.seed = seed
        self.source = source  # what the values come from: the corpus hash, or the device of a live one

    @property
    def configs(self) -> tuple[Config, ...] | None:
        """The only configs that can be queried, in a fixed order, or None where any of `space` can."""
        return None

    @property
    def open_space(self) -> SearchSpace:
        """The space that an optimizer may ask in where the nearest of `configs` stands in for any other config."""
        return self.space

    @property
    def has_costs(self) -> bool:
        """Whether costs are known. Where they are not, every epoch counts one second."""
        return True

    @property
    def task(self) -> Task:
        """What an optimizer is told about this benchmark."""
        return Task(self.space, self.epochs, self.metric.worst_loss, self.configs)

    @property
    def stamp(self) -> dict[str, Any]:
        """What identifies this benchmark on every result."""
        return {
            "kind": self.kind,
            "dataset": self.dataset,
            "metric": self.metric.name,
            "fold": self.fold,
            "seed": self.seed,
            "epochs": self.epochs,
            "source": self.source,
        }

    def query(self, config: Mapping[str, Value], epoch: int) -> Observation:
        """The outcome of training `config` up to and including `epoch` (1 to `epochs`).

        Where the trial ended before `epoch`, the value is NaN, the status says why, and the cost is all that it
        spent. Where it stopped early by its own rule, its last value stands at every later epoch.
        """
        if isinstance(epoch, bool) or not isinstance(epoch, int | np.integer) or not 1 <= epoch <= self.epochs:
            raise InvalidInput(f"epoch must be an integer from 1 to {self.epochs}, got {epoch!r}")
        return self._query(self._check(config), int(epoch))

    def curve(self, config: Mapping[str, Value]) -> Curve:
        """All epochs of `config`, with validation and test losses."""
        return self._curve(self._check(config))

    def _check(self, config: Mapping[str, Value]) -> Config:
        """`config` as a Config of the space, or InvalidConfig."""
        return self.space.config(config)

    def _query(self, config: Config, epoch: int) -> Observation:
        curve = self._curve(config)
        if epoch <= curve.epochs_run:
            return Observation(float(curve.value[epoch - 1]), float(curve.seconds[:epoch].sum()), Status.COMPLETED)
        last = curve.stands(epoch)
        value = float("nan") if last is None else float(curve.value[last])
        return Observation(value, float(curve.seconds.sum()) + curve.failure_seconds, curve.status)

    @abstractmethod
    def _curve(self, config: Config) -> Curve:
        """The curve of a checked config."""
