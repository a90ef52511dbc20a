"""The boundary to samplers of other packages, which know neither tables nor curves nor failures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from metaquery.optimizers._rungs import rungs
from metaquery.optimizers.base import Optimizer
from metaquery.space import Config, Distances
from metaquery.types import Observation, Suggestion, Task

_REPEATS = 200  # proposals in a row of what is known already: three DEHB rounds of 65


class Wrapped(Optimizer):
    """An optimizer that lives in another package.

    A subclass writes `_propose` and `_report`. What happens here for all of them: where only some configs can be
    evaluated, the nearest one stands for a proposal outside of them, unless the study sees to that (`Task.snapped`).
    A proposal whose outcome is known is answered from memory and not asked again, with the loss at the lowest known
    epoch from the proposed one on; where a longer training of it is running, that one is asked again. So no config is
    ever asked for fewer epochs than before. When nothing but known ones are proposed, it has finished. A config that
    failed is reported with the worst loss from then on.
    """

    def bind(self, task: Task) -> None:
        """Take the task on, once, before the first ask."""
        self._jobs: dict[int, Any] = {}
        self._losses: dict[Config, dict[int, float]] = {}  # by epoch
        self._failed: set[Config] = set()
        self._highest: dict[Config, int] = {}  # epoch that was asked for
        self._table: tuple[Config, ...] = () if task.candidates is None or task.snapped else task.candidates
        self._distances = Distances(task.space, self._table) if self._table else None
        super().bind(task)

    @abstractmethod
    def _propose(self) -> tuple[Any, Config, int] | None:
        """A job of the package's own, its config and its epoch; None to wait, or at the end."""

    @abstractmethod
    def _report(self, job: Any, epoch: int, loss: float, seconds: float) -> None:
        """Tell the package the outcome of `job`, which was proposed with `epoch`."""

    def _ask(self, token: int) -> tuple[Config, int] | None:
        for _ in range(_REPEATS):
            proposal = self._propose()
            if proposal is None:
                return None
            job, config, epoch = proposal
            if self._distances is not None:
                config = self._table[int(self._distances(config).argmin())]
            loss = self._known(config, epoch)
            if loss is None:
                self._jobs[token] = job, epoch
                self._highest[config] = max(epoch, self._highest.get(config, 0))
                return config, self._highest[config]
            self._report(job, epoch, loss, 0.0)
        return None

    def _known(self, config: Config, epoch: int) -> float | None:
        if config in self._failed:
            return self.task.worst_loss
        losses = self._losses.get(config, {})
        return losses.get(min((reached for reached in losses if reached >= epoch), default=0))

    def _tell(self, suggestion: Suggestion, observation: Observation, loss: float) -> None:
        job, epoch = self._jobs.pop(suggestion.token)
        if observation.ok:
            self._losses.setdefault(suggestion.config, {})[suggestion.epoch] = loss
        else:
            self._failed.add(suggestion.config)
        self._report(job, epoch, loss, observation.cost_seconds)


class Climbing(Wrapped):
    """A package that begins trials and decides at every rung whether they go on; a new one begins where none waits."""

    defaults: ClassVar[Mapping[str, Any]] = {"eta": 3}

    def bind(self, task: Task) -> None:
        """Take the task on, once, before the first ask."""
        self._rungs = rungs(task.max_epochs, self.options["eta"], self.name)
        self._ready: list[tuple[Any, Config, int]] = []  # trial, config and level of those that go on
        super().bind(task)

    @abstractmethod
    def _begin(self) -> tuple[Any, Config] | None:
        """A new trial of the package's own and its config; None where it has no more."""

    @abstractmethod
    def _goes_on(self, trial: Any, level: int, loss: float) -> bool:
        """Tell the package the loss of `trial` at the rung `level`; whether it trains on. Never asked at the last."""

    @abstractmethod
    def _end(self, trial: Any, level: int, loss: float) -> None:
        """Tell the package the loss of `trial` at the last rung."""

    def _propose(self) -> tuple[Any, Config, int] | None:
        if self._ready:
            trial, config, level = self._ready.pop(0)
        else:
            begun = self._begin()
            if begun is None:
                return None
            trial, config, level = *begun, 0
        return (trial, config, level), config, self._rungs[level]

    def _report(self, job: tuple[Any, Config, int], epoch: int, loss: float, seconds: float) -> None:  # noqa: ARG002
        trial, config, level = job
        if level + 1 == len(self._rungs):
            self._end(trial, level, loss)
        elif self._goes_on(trial, level, loss):
            self._ready.append((trial, config, level + 1))
