"""How far apart two configs are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metaquery.space import Config, SearchSpace


class Distances:
    """Gower's distance (Biometrics 1971) from any config of a space to each of `configs`.

    Per hyperparameter that is 0 or 1 for categories, the distance along the unit axis for numbers and ordered
    choices, 1 where only one of the two is active, and 0 where neither is; summed over hyperparameters.
    """

    def __init__(self, space: SearchSpace, configs: Sequence[Config]) -> None:
        self._space = space
        self._points = np.array([space.to_unit(config) for config in configs])  # (n_configs, n_hyperparameters)
        self._categorical = np.array([hp.kind == "categorical" for hp in space.hyperparameters])

    def __call__(self, config: Config) -> NDArray[np.float64]:
        """The distances of `config`, shape (n_configs,)."""
        point = np.array(self._space.to_unit(config))
        gaps = np.abs(self._points - point)
        gaps[:, self._categorical] = gaps[:, self._categorical] > 0
        gaps[np.isnan(self._points) != np.isnan(point)] = 1.0
        total: NDArray[np.float64] = np.nansum(gaps, axis=1)
        return total
