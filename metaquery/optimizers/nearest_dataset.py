"""The best configs of similar datasets, as in the warm start of auto-sklearn (Feurer et al., NeurIPS 2015)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidInput
from metaquery.optimizers._transfer import Transfer, need_training, then_random
from metaquery.optimizers.base import Optimizer
from metaquery.optimizers.history import History
from metaquery.space import Config
from metaquery.types import Task


class NearestDataset(Optimizer):
    """Full training of the nearest dataset's configs, the best first, then of the next dataset's, at last at random.

    Near is a small L1 distance between standardised meta-features. Configs that failed there are left to chance.
    """

    needs_history = True

    def __init__(self, seed: int = 0, *, history: History | None = None, **options: Any) -> None:
        super().__init__(seed, history=history, **options)
        need_training(self.name, self.history.training)
        self._order = np.argsort(
            distances(self.history.target, [item.metafeatures for item in self.history.training]), kind="stable"
        ).tolist()

    def _bind(self, task: Task) -> None:
        transfer = Transfer(task)
        ranked: dict[Config, None] = {}
        for position in self._order:
            losses = transfer.losses(self.history.training[position])
            good = [config for config in losses if losses[config] < 1.0]
            ranked |= dict.fromkeys(sorted(good, key=lambda config: (losses[config], config.config_id)))
        self._configs = then_random(list(ranked), task, np.random.default_rng(self.seed))

    def _ask(self, token: int) -> tuple[Config, int] | None:  # noqa: ARG002
        config = next(self._configs, None)
        return None if config is None else (config, self.task.max_epochs)


def distances(target: Mapping[str, float], training: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
    """L1 distances of `target` to each of `training`, shape (len(training),).

    Over the meta-features that all of them have, each divided by its standard deviation over all of them; those
    without any variation do not count. Raises InvalidInput where there is no common one.
    """
    every = [target, *training]
    names = sorted(name for name in target if all(np.isfinite(item.get(name, np.nan)) for item in every))
    if not names:
        raise InvalidInput("nearest_dataset compares meta-features, and these datasets have none in common")
    values = np.array([[item[name] for name in names] for item in every])
    spread = values.std(axis=0)
    varying = spread > 0
    scaled = values[:, varying] / spread[varying]
    result: NDArray[np.float64] = np.abs(scaled[1:] - scaled[0]).sum(axis=1)
    return result
