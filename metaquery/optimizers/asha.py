"""ASHA, asynchronous successive halving (Li et al., MLSys 2020)."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from math import inf
from typing import Any, ClassVar

import numpy as np

from metaquery.optimizers._pool import Pool
from metaquery.optimizers._rungs import rungs
from metaquery.optimizers.base import Optimizer
from metaquery.space import Config
from metaquery.types import Observation, Suggestion, Task


class Asha(Optimizer):
    """Whoever is free promotes: a config among the best 1 in eta of its rung, from the highest rung there is one in.

    Only where there is none, a new config begins at the lowest rung. Nothing waits, with any number of workers. A
    failed config counts as the worst of its rung and is never promoted. Where a table has no new config left, the best
    one that was not promoted is, from the highest rung there is one in.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"eta": 3}

    def _bind(self, task: Task) -> None:
        self._pool = Pool(task, np.random.default_rng(self.seed))
        self._epochs = rungs(task.max_epochs, self.options["eta"], self.name)
        self._rungs = [_Rung() for _ in self._epochs[:-1]]  # nothing is promoted from the last
        self._highest_first = tuple(zip(self._rungs, self._epochs[1:], strict=True))[::-1]

    def _ask(self, token: int) -> tuple[Config, int] | None:  # noqa: ARG002
        promoted = self._promoted(self.options["eta"])
        if promoted is not None:
            return promoted
        config = self._pool.draw()
        return self._promoted(1) if config is None else (config, self._epochs[0])

    def _promoted(self, one_in: int) -> tuple[Config, int] | None:
        for rung, epoch in self._highest_first:
            if rung.left and rung.refused != one_in:
                config = rung.promote(one_in)
                if config is not None:
                    return config, epoch
        return None

    def _tell(self, suggestion: Suggestion, observation: Observation, loss: float) -> None:
        level = self._epochs.index(suggestion.epoch)
        if level < len(self._rungs):
            self._rungs[level].add(suggestion.config, loss if observation.ok else inf)


class _Rung:
    """Results at one epoch, the best first."""

    def __init__(self) -> None:
        self._ranked: list[tuple[float, str]] = []  # loss and config_id of all, the promoted and the failed included
        self.left: list[tuple[float, str, Config]] = []  # that can still be promoted
        self.refused = 0  # the share, one in so many, that had none to promote since the last result

    def add(self, config: Config, loss: float) -> None:
        self.refused = 0
        insort(self._ranked, (loss, config.config_id))
        if loss < inf:
            insort(self.left, (loss, config.config_id, config))

    def promote(self, one_in: int) -> Config | None:
        """Take the best config that is `left`, if it is among the best 1 in `one_in`."""
        loss, config_id, config = self.left[0]
        if bisect_left(self._ranked, (loss, config_id)) >= len(self._ranked) // one_in:
            self.refused = one_in
            return None
        del self.left[0]
        return config
