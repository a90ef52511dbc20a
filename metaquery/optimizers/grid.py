"""Grid search."""

from __future__ import annotations

from metaquery.optimizers.base import Optimizer
from metaquery.space import Config
from metaquery.types import Task


class Grid(Optimizer):
    """Full training of every candidate, or of every config of the space's grid, in their fixed order."""

    deterministic = True

    def _bind(self, task: Task) -> None:
        self._configs = iter(task.space.grid() if task.candidates is None else task.candidates)

    def _ask(self, token: int) -> tuple[Config, int] | None:  # noqa: ARG002
        config = next(self._configs, None)
        return None if config is None else (config, self.task.max_epochs)
