"""What the configs of other datasets mean on the space of this one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidInput
from metaquery.optimizers._pool import Pool
from metaquery.optimizers.history import DatasetHistory
from metaquery.space import Config, Distances
from metaquery.types import Task


class Transfer:
    """Configs of training datasets as configs of `task`.

    Those that can be evaluated on `task` stand for themselves. Of a dataset that has none of them (its backbones are
    for other dimensions, say), every config stands for the one with the same legal values and defaults for the rest,
    and on a table for the candidate nearest to that.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._candidates = None if task.candidates is None else frozenset(task.candidates)
        self._distances = None if task.candidates is None else Distances(task.space, task.candidates)

    def losses(self, trained: DatasetHistory) -> dict[Config, float]:
        """Normalised losses at full fidelity by config of the task; the mean where several stand for one.

        0 is the best and 1 the worst full training of the dataset; a config that did not get there has 1.
        """
        full = min(self._task.max_epochs, trained.epochs)
        normalised = _normalised(trained.losses[:, full - 1])
        itself = {config: i for i, config in enumerate(trained.configs) if self._here(config)}
        if itself:
            return {config: float(normalised[i]) for config, i in itself.items()}
        found: dict[Config, list[float]] = {}
        for config, loss in zip(trained.configs, normalised.tolist(), strict=True):
            found.setdefault(self._stand_in(config), []).append(loss)
        return {config: float(np.mean(values)) for config, values in found.items()}

    def _here(self, config: Config) -> bool:
        if self._candidates is not None:
            return config in self._candidates
        space = self._task.space
        legal = all(name in space.by_name and space[name].allows(value) for name, value in config.items())
        return legal and space.complete(config) == config

    def _stand_in(self, config: Config) -> Config:
        space, candidates = self._task.space, self._task.candidates
        legal = {n: v for n, v in config.items() if n in space.by_name and space[n].allows(v)}
        same = space.complete(legal)
        if candidates is None or self._distances is None:
            return same
        return candidates[int(self._distances(same).argmin())]


def then_random(first: list[Config], task: Task, rng: np.random.Generator) -> Iterator[Config]:
    """The configs `first`, and after them all others at random, each once."""
    pool = Pool(task, rng)
    for config in first:
        pool.take(config)
        yield config
    while (config_left := pool.draw()) is not None:
        yield config_left


def need_training(name: str, training: tuple[DatasetHistory, ...]) -> None:
    """Refuse an empty history."""
    if not any(item.configs for item in training):
        raise InvalidInput(f"{name} learns from other datasets, and there are none: use protocol lodo and two families")


def _normalised(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    known = losses[np.isfinite(losses)]
    if not len(known):
        return np.ones(len(losses))
    span = float(known.max() - known.min())
    scaled = (losses - known.min()) / span if span else np.zeros(len(losses))
    return np.where(np.isfinite(losses), scaled, 1.0)
