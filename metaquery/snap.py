"""Which config of a table stands in for one that is not in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metaquery.space import Config, Distances, SearchSpace


class Nearest:
    """Maps any config of `space` to one of `configs`: itself, or the nearest that no other config was mapped to yet.

    The same config is always mapped to the same one; ties go to the first of `configs`. Once all of them have stood
    in, the nearest one of all does.
    """

    def __init__(self, space: SearchSpace, configs: Sequence[Config]) -> None:
        self._configs = tuple(configs)
        self._row = {config: row for row, config in enumerate(self._configs)}
        self._distances = Distances(space, self._configs)
        self._free = np.ones(len(self._configs), dtype=bool)
        self._mapped: dict[Config, tuple[Config, float]] = {}

    def __call__(self, config: Config) -> tuple[Config, float]:
        """The config that stands in for `config`, and its distance (see `Distances`)."""
        if config not in self._mapped:
            self._mapped[config] = self._find(config)
        return self._mapped[config]

    def _find(self, config: Config) -> tuple[Config, float]:
        if config in self._row:
            row, distance = self._row[config], 0.0
        else:
            distances = self._distances(config)
            row = int(np.where(self._free, distances, np.inf).argmin() if self._free.any() else distances.argmin())
            distance = float(distances[row])
        self._free[row] = False
        return self._configs[row], distance
