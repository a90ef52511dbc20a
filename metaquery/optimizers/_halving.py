"""Brackets of synchronous successive halving, which Hyperband and its relatives share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from metaquery.optimizers._pool import Pool
from metaquery.optimizers._rungs import rungs
from metaquery.optimizers.base import Optimizer
from metaquery.space import Config
from metaquery.types import Observation, Suggestion, Task


class Bracket:
    """One run of successive halving: `sizes[i]` configs are trained to `epochs[i]`, then the best of them go on.

    Nothing is promoted from a rung before all of its configs have been told. Failed ones never are.
    """

    def __init__(self, epochs: list[int], sizes: list[int]) -> None:
        self._epochs = epochs
        self._sizes = sizes
        self._rung = 0
        self._new = sizes[0]  # configs of the first rung that are still to be drawn
        self._queue: list[Config] = []  # promoted, and to be asked
        self._running = 0
        self._losses: dict[Config, float] = {}  # of this rung

    @property
    def done(self) -> bool:
        """Whether there is nothing left to ask, whatever is told."""
        return not (self._new or self._queue or self._running)

    def ask(self, draw: Callable[[], Config | None]) -> tuple[Config, int] | None:
        """The next config and its epoch, a new one by `draw`; None where all of the rung are running or done."""
        config = draw() if self._new else None
        if config is None:
            self._new = 0
            self._promote()
            if not self._queue:
                return None
            config = self._queue.pop(0)
        else:
            self._new -= 1
        self._running += 1
        return config, self._epochs[self._rung]

    def tell(self, config: Config, loss: float | None) -> None:
        """The loss of a config that was asked, None where it failed."""
        self._running -= 1
        if loss is not None:
            self._losses[config] = loss
        self._promote()

    def _promote(self) -> None:
        if self.done and self._rung + 1 < len(self._epochs):
            self._rung += 1
            ranked = sorted(self._losses, key=lambda config: (self._losses[config], config.config_id))
            self._queue = ranked[: self._sizes[self._rung]]
            self._losses = {}


class Halving(Optimizer):
    """Brackets of successive halving, one after the other; while one waits for results, the next one begins.

    No config is drawn twice. Where a table has no new one left, the last bracket is smaller than planned, and at last
    all others are trained to the end: those that came furthest first, the best of them before the rest.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"eta": 3}

    def _bind(self, task: Task) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._rungs = rungs(task.max_epochs, self.options["eta"], self.name)
        self._pool = Pool(task, self._rng)
        self._brackets: list[Bracket] = []  # that are not done, in the order of their beginning
        self._begun = 0
        self._asked_by: dict[int, Bracket] = {}
        self._unfinished: dict[Config, tuple[int, float]] = {}  # epochs reached and the loss there
        self._rest: Iterator[Config] | None = None

    @abstractmethod
    def _sizes(self, bracket: int) -> list[int]:
        """Configs at the rungs of the bracket number `bracket` (from 0), which ends at full fidelity."""

    def _draw(self) -> Config | None:
        """A new config; None where there is none left."""
        return self._pool.draw()

    def _ask(self, token: int) -> tuple[Config, int] | None:
        for bracket in (*self._brackets, self._next_bracket()):
            proposal = bracket.ask(self._draw)
            if proposal is None:
                continue
            if bracket not in self._brackets:
                self._brackets.append(bracket)
                self._begun += 1
            self._asked_by[token] = bracket
            return proposal
        if any(not bracket.done for bracket in self._brackets):
            return None
        if self._rest is None:
            order = sorted(self._unfinished.items(), key=lambda item: (-item[1][0], item[1][1], item[0].config_id))
            self._rest = iter([config for config, _ in order])
        config = next(self._rest, None)
        return None if config is None else (config, self.task.max_epochs)

    def _next_bracket(self) -> Bracket:
        sizes = self._sizes(self._begun)
        return Bracket(self._rungs[-len(sizes) :], sizes)

    def _tell(self, suggestion: Suggestion, observation: Observation, loss: float) -> None:
        config = suggestion.config
        self._unfinished.pop(config, None)
        if observation.ok and suggestion.epoch < self.task.max_epochs:
            self._unfinished[config] = suggestion.epoch, loss
        bracket = self._asked_by.pop(suggestion.token, None)
        if bracket is not None:
            bracket.tell(config, loss if observation.ok else None)
            self._brackets = [bracket for bracket in self._brackets if not bracket.done]
