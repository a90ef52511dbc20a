"""A zero-shot portfolio (Wistuba et al., IEEE DSAA 2015; the greedy selection of auto-sklearn 2.0, JMLR 23, 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidInput
from metaquery.optimizers._transfer import Transfer, need_training, then_random
from metaquery.optimizers.base import Optimizer
from metaquery.optimizers.history import History
from metaquery.space import Config
from metaquery.types import Task


class Portfolio(Optimizer):
    """Full training of configs that complement each other on the training datasets, then of others at random.

    Each next config of the portfolio lowers the mean over datasets of the best normalised loss in it so far the most;
    where none does any more, it is the one with the lowest mean loss itself. What a dataset did not run counts as the
    worst there. `size` is the length of the portfolio.
    """

    needs_history = True
    defaults: ClassVar[Mapping[str, Any]] = {"size": 50}

    def __init__(self, seed: int = 0, *, history: History | None = None, **options: Any) -> None:
        super().__init__(seed, history=history, **options)
        need_training(self.name, self.history.training)
        if self.options["size"] < 1:
            raise InvalidInput(f"option size of {self.name} must be at least 1, got {self.options['size']}")

    def _bind(self, task: Task) -> None:
        transfer = Transfer(task)
        by_dataset = [transfer.losses(trained) for trained in self.history.training]
        configs = sorted({config for losses in by_dataset for config in losses}, key=lambda config: config.config_id)
        losses = np.array([[found.get(config, 1.0) for found in by_dataset] for config in configs])
        chosen = greedy(losses, self.options["size"])
        self._configs = then_random([configs[i] for i in chosen], task, np.random.default_rng(self.seed))

    def _ask(self, token: int) -> tuple[Config, int] | None:  # noqa: ARG002
        config = next(self._configs, None)
        return None if config is None else (config, self.task.max_epochs)


def greedy(losses: NDArray[np.float64], size: int) -> list[int]:
    """Up to `size` rows of `losses`, shape (configs, datasets), in the order of choice; the first on ties."""
    means = losses.mean(axis=1)
    best = np.full(losses.shape[1], np.inf)
    chosen: list[int] = []
    for _ in range(min(size, len(losses))):
        gains = np.minimum(losses, best).mean(axis=1)
        gains[chosen] = np.inf
        tied = np.flatnonzero(gains == gains.min())
        pick = int(tied[means[tied].argmin()])
        chosen.append(pick)
        best = np.minimum(best, losses[pick])
    return chosen
