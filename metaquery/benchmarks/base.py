"""What every benchmark is: a search space and the learning curves of its configs, under one validating front."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidInput
from metaquery.metrics import Metric
from metaquery.space import Config, SearchSpace, Value
from metaquery.types import STATUSES, Curve, Observation, Observations, Outcome, Status, Task


class Benchmark(ABC):
    """One dataset, fold and seed as an optimizer's problem.

    `query` and `curve` check their arguments once; a subclass writes `_curve`, and `_curve_until` where the beginning
    of a curve can be had for less than all of it. Validation and test values come out as losses to minimise;
    `metric.from_loss` gives them back in the metric's own direction.
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
        self._check_epoch(epoch)
        return self._query(self._check(config), int(epoch))

    def evaluate(self, config: Mapping[str, Value], epoch: int) -> Outcome:
        """`query` with the test loss beside it: what a study asks for, in real time from several threads at once."""
        self._check_epoch(epoch)
        return self._evaluate(self._check(config), int(epoch))

    def query_batch(
        self, configs: Sequence[Mapping[str, Value]] | NDArray[np.integer[Any]], epochs: Sequence[int] | NDArray[Any]
    ) -> Observations:
        """`query` of many: `configs` and `epochs`, shape (n,), go together one by one.

        Where only some configs can be queried, `configs` may be the positions of these in the property of that name:
        an array of integers, which is by far the fastest.
        """
        wanted = np.asarray(epochs)
        if wanted.shape != (len(configs),) or (wanted.size and not np.issubdtype(wanted.dtype, np.integer)):
            raise InvalidInput(
                f"epochs must be {len(configs)} integers, one for each config, got {wanted.dtype} of {wanted.shape}"
            )
        if wanted.size and not (wanted.min() >= 1 and wanted.max() <= self.epochs):
            raise InvalidInput(f"epochs must be from 1 to {self.epochs}, got {wanted.min()} to {wanted.max()}")
        wanted = wanted.astype(np.int64, copy=False)
        if not isinstance(configs, np.ndarray):
            return self._query_unchecked(configs, wanted)
        known = self.configs or ()
        if not np.issubdtype(configs.dtype, np.integer):
            raise InvalidInput(f"positions of configs must be integers, got an array of {configs.dtype}")
        if configs.size and not (configs.min() >= 0 and configs.max() < len(known)):
            raise InvalidInput(
                f"positions of configs must be from 0 to {len(known) - 1}, got {configs.min()} to {configs.max()}"
                if known
                else f"benchmark {self.kind} evaluates any config: give configs, not positions"
            )
        return self._query_rows(configs, wanted)

    def curve(self, config: Mapping[str, Value]) -> Curve:
        """All epochs of `config`, with validation and test losses."""
        return self._curve(self._check(config))

    def _check(self, config: Mapping[str, Value]) -> Config:
        """`config` as a Config of the space, or InvalidConfig."""
        return self.space.config(config)

    def _check_epoch(self, epoch: int) -> None:
        if type(epoch) is int and 1 <= epoch <= self.epochs:  # most are, and the rest takes five times as long
            return
        if isinstance(epoch, bool) or not isinstance(epoch, int | np.integer) or not 1 <= epoch <= self.epochs:
            raise InvalidInput(f"epoch must be an integer from 1 to {self.epochs}, got {epoch!r}")

    def _evaluate(self, config: Config, epoch: int) -> Outcome:
        """Of a checked config and epoch."""
        curve = self._curve_until(config, epoch)
        last = curve.stands(epoch)
        test = float("nan") if last is None else float(curve.test[last])
        return Outcome(self._observed(curve, epoch), test, min(epoch, curve.epochs_run))

    def _query(self, config: Config, epoch: int) -> Observation:
        return self._observed(self._curve_until(config, epoch), epoch)

    @staticmethod
    def _observed(curve: Curve, epoch: int) -> Observation:
        if epoch <= curve.epochs_run:
            cost = float(np.cumsum(curve.seconds[:epoch])[-1])
            return Observation(float(curve.value[epoch - 1]), cost, Status.COMPLETED)
        last = curve.stands(epoch)
        value = float("nan") if last is None else float(curve.value[last])
        spent = float(np.cumsum(curve.seconds)[-1]) if curve.epochs_run else 0.0
        return Observation(value, spent + curve.failure_seconds, curve.status)

    def _query_unchecked(self, configs: Sequence[Mapping[str, Value]], epochs: NDArray[np.int64]) -> Observations:
        """Configs as they were given and checked epochs, shape (n,)."""
        return self._query_batch([self._check(config) for config in configs], epochs)

    def _query_batch(self, configs: Sequence[Config], epochs: NDArray[np.int64]) -> Observations:
        """Checked configs and epochs, shape (n,)."""
        found = [self._query(config, epoch) for config, epoch in zip(configs, epochs.tolist(), strict=True)]
        return Observations(
            np.array([item.value for item in found], np.float64),
            np.array([item.cost_seconds for item in found], np.float64),
            np.array([STATUSES.index(item.status) for item in found], np.uint8),
        )

    def _query_rows(self, rows: NDArray[np.integer[Any]], epochs: NDArray[np.int64]) -> Observations:
        """Checked positions in `configs` and epochs, shape (n,)."""
        configs = self.configs or ()
        return self._query_batch([configs[row] for row in rows.tolist()], epochs)

    @abstractmethod
    def _curve(self, config: Config) -> Curve:
        """The curve of a checked config."""

    def _curve_until(self, config: Config, epoch: int) -> Curve:  # noqa: ARG002
        """The curve of a checked config as far as `epoch` or further, or to where it ended."""
        return self._curve(config)
