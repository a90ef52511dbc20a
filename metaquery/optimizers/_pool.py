"""New configs, one after the other, and never the same one twice."""

from __future__ import annotations

import numpy as np

from metaquery.space import Config
from metaquery.types import Task

_TRIES = 1000  # draws in a row that only repeat: a space of this few configs counts as used up


class Pool:
    """The configs of a task that were not drawn yet: its candidates, or any point of its space."""

    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        self._space = task.space
        self._rng = rng
        candidates = task.candidates
        order = () if candidates is None else rng.permutation(len(candidates)).tolist()
        self._left = None if candidates is None else {candidates[i]: None for i in order}
        self._drawn: set[Config] = set()

    def draw(self) -> Config | None:
        """A config at random; None where there is none left."""
        if self._left is None:
            samples = (self._space.sample(self._rng) for _ in range(_TRIES))
            config = next((sample for sample in samples if sample not in self._drawn), None)
        else:
            config = next(iter(self._left), None)
        if config is not None:
            self.take(config)
        return config

    def offers(self, config: Config) -> bool:
        """Whether `config` can still be drawn."""
        return config not in self._drawn if self._left is None else config in self._left

    def take(self, config: Config) -> None:
        """Mark `config` as drawn."""
        if self._left is None:
            self._drawn.add(config)
        else:
            del self._left[config]

    @property
    def left(self) -> list[Config] | None:
        """The candidates that can still be drawn, in random order; None where any point of the space may be one."""
        return None if self._left is None else list(self._left)
