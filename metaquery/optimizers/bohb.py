"""BOHB (Falkner et al., ICML 2018): Hyperband whose new configs come from a model of the good ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidInput
from metaquery.optimizers.hyperband import Hyperband
from metaquery.space import Config, SearchSpace
from metaquery.types import Observation, Suggestion, Task

_MIN_BANDWIDTH = 1e-3
_WIDENED = 3.0  # bandwidths of the good ones, while configs are sampled around them


class Bohb(Hyperband):
    """Two kernel densities, over the good and the other configs at the highest epoch with enough of them.

    A new config is the one of `n_samples` around good ones where their ratio is largest, or with the probability
    `random_fraction`, and as long as there are too few, one at random. On a table the `n_samples` are candidates that
    were not drawn yet. `good` is the share of good ones. Where a hyperparameter is inactive it does not count.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"eta": 3, "good": 0.15, "n_samples": 64, "random_fraction": 1 / 3}

    def _bind(self, task: Task) -> None:
        for key in ("good", "random_fraction"):
            if not 0 <= self.options[key] <= 1:
                raise InvalidInput(f"option {key} of {self.name} must be from 0 to 1, got {self.options[key]}")
        if self.options["n_samples"] < 1:
            raise InvalidInput(f"option n_samples of {self.name} must be at least 1, got {self.options['n_samples']}")
        super()._bind(task)
        self._results: dict[int, dict[Config, float]] = {}  # losses by epoch, failures as the worst

    def _tell(self, suggestion: Suggestion, observation: Observation, loss: float) -> None:
        self._results.setdefault(suggestion.epoch, {})[suggestion.config] = loss
        super()._tell(suggestion, observation, loss)

    def _draw(self) -> Config | None:
        needed = len(self.task.space.hyperparameters) + 1
        enough = [epoch for epoch, losses in self._results.items() if len(losses) >= needed + 2]
        if not enough or self._rng.random() < self.options["random_fraction"]:
            return self._pool.draw()
        losses = self._results[max(enough)]
        ranked = sorted(losses, key=lambda config: (losses[config], config.config_id))
        n_good = max(needed, int(self.options["good"] * len(ranked)))
        n_other = max(needed, len(ranked) - n_good)
        good, other = (Density(self.task.space, part) for part in (ranked[:n_good], ranked[-n_other:]))
        left, n = self._pool.left, self.options["n_samples"]
        if left is None:
            samples = [good.sample(self._rng) for _ in range(n)]
            samples = [config for config in samples if self._pool.offers(config)]
        else:
            samples = left[:n]  # they are in random order
        if not samples:
            return self._pool.draw()
        config = samples[int(np.argmax(good.log(samples) - other.log(samples)))]
        self._pool.take(config)
        return config


class Density:
    """A kernel density over the unit axes of a space: Gaussian for numbers, Aitchison and Aitken's for choices."""

    def __init__(self, space: SearchSpace, configs: list[Config]) -> None:
        self._space = space
        self._points = np.array([space.to_unit(config) for config in configs])  # (n, d), NaN where inactive
        self._levels = np.array([len(hp.choices) for hp in space.hyperparameters])
        active = np.isfinite(self._points)
        count = np.maximum(active.sum(axis=0), 1)
        mean = np.where(active, self._points, 0.0).sum(axis=0) / count
        spread = np.sqrt(np.where(active, (self._points - mean) ** 2, 0.0).sum(axis=0) / count)
        scott = 1.06 * spread * len(configs) ** (-1 / (4 + len(self._levels)))
        self._bandwidth = np.maximum(scott, _MIN_BANDWIDTH)
        # For choices it is the probability of another one, which is at most that of drawing any.
        most = np.where(self._levels > 0, 1 - 1 / np.maximum(self._levels, 1), np.inf)
        self._bandwidth = np.minimum(self._bandwidth, most)

    def log(self, configs: list[Config]) -> NDArray[np.float64]:
        """Logarithms of the densities of `configs`, shape (len(configs),)."""
        at = np.array([self._space.to_unit(config) for config in configs])[:, None, :]
        gaps = at - self._points
        width, levels = self._bandwidth, np.maximum(self._levels, 2)
        number = -0.5 * (gaps / np.maximum(width, _MIN_BANDWIDTH)) ** 2 - np.log(np.maximum(width, _MIN_BANDWIDTH))
        with np.errstate(divide="ignore"):
            choice = np.where(gaps == 0, np.log1p(-width * (self._levels > 0)), np.log(width / (levels - 1)))
        kernels = np.where(self._levels > 0, choice, number)
        kernels = np.where(np.isfinite(gaps), kernels, 0.0).sum(axis=-1)  # (configs, points)
        result: NDArray[np.float64] = np.logaddexp.reduce(kernels, axis=1) - np.log(len(self._points))
        return result

    def sample(self, rng: np.random.Generator) -> Config:
        """A config around one of the points; what is inactive there is drawn at random where it becomes active."""
        point = self._points[rng.integers(len(self._points))].copy()
        noise, anywhere = rng.normal(size=len(point)), rng.random(len(point))
        change = rng.random(len(point)) < self._bandwidth
        near = np.clip(point + noise * self._bandwidth * _WIDENED, 0.0, 1.0)
        moved = np.where(self._levels > 0, np.where(change, anywhere, point), near)
        return self._space.from_unit(np.where(np.isfinite(point), moved, anywhere))
