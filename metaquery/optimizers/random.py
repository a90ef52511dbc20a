"""Random search, the baseline that every other optimizer has to beat."""

from __future__ import annotations

import numpy as np

from metaquery.optimizers.base import Optimizer
from metaquery.space import Config
from metaquery.types import Task


class Random(Optimizer):
    """Full training of configs drawn at random, without replacement where only some can be evaluated.

    Without candidates, configs are drawn uniformly along every axis of the space, and it never finishes.
    """

    def _bind(self, task: Task) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._order = None if task.candidates is None else iter(self._rng.permutation(len(task.candidates)).tolist())

    def _ask(self, token: int) -> tuple[Config, int] | None:  # noqa: ARG002
        task = self.task
        if self._order is None or task.candidates is None:
            return task.space.sample(self._rng), task.max_epochs
        position = next(self._order, None)
        return None if position is None else (task.candidates[position], task.max_epochs)
