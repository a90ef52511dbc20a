"""One epoch for all, then full training of the best (Egele et al., "Is one epoch all you need?", arXiv 2307.15422)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from metaquery.errors import InvalidInput
from metaquery.optimizers._pool import Pool
from metaquery.optimizers.base import Optimizer
from metaquery.space import Config
from metaquery.types import Observation, Suggestion, Task


class OneEpochTopK(Optimizer):
    """`n` configs (all of a table with fewer) for one epoch, then the best `k` of them to the end, the best first.

    Nothing is trained further before every first epoch has been told. Failed configs are left out.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"n": 200, "k": 10}

    def _bind(self, task: Task) -> None:
        for key in ("n", "k"):
            if self.options[key] < 1:
                raise InvalidInput(f"option {key} of {self.name} must be at least 1, got {self.options[key]}")
        self._pool = Pool(task, np.random.default_rng(self.seed))
        self._new = self.options["n"]
        self._running = 0
        self._losses: dict[Config, float] = {}
        self._top: list[Config] | None = None

    def _ask(self, token: int) -> tuple[Config, int] | None:  # noqa: ARG002
        config = self._pool.draw() if self._new else None
        if config is not None:
            self._new -= 1
            self._running += 1
            return config, 1
        self._new = 0
        if self._running:
            return None
        if self._top is None:
            ranked = sorted(self._losses, key=lambda item: (self._losses[item], item.config_id))
            self._top = ranked[: self.options["k"]]
        return (self._top.pop(0), self.task.max_epochs) if self._top else None

    def _tell(self, suggestion: Suggestion, observation: Observation, loss: float) -> None:
        if self._top is None:
            self._running -= 1
            if observation.ok:
                self._losses[suggestion.config] = loss
