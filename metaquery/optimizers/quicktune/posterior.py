"""The Gaussian process after observations, kept up to date one observation at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from metaquery.optimizers.quicktune.encoding import Array
from metaquery.optimizers.quicktune.predictor import DeepKernelGP, cholesky, solve, with_noise

_LOG_ROOT = 0.5 * math.log(2.0 * math.pi)


class Posterior:
    """What observations say of m candidates, exactly, with all parameters of `model` fixed.

    It grows one observation at a time. What is observed is always what a candidate stood for, so its covariances are
    there already: taking it up costs O(nm) after n observations, and moving a candidate on O(n^2), where making the
    posterior anew costs O(n^3 + n^2 m). `mean` and `variance`, of shape (m,), are those of noiseless targets.
    """

    def __init__(self, model: DeepKernelGP, features: Array, targets: Array, candidates: Array) -> None:
        """After `targets`, shape (n,), at `features`, shape (n, WIDTH); `candidates` has shape (m, WIDTH)."""
        self._model = model
        self._features = features
        self._candidates = candidates.copy()
        self._factor = cholesky(with_noise(model.kernel(features, features), model.noise))
        self._white = solve(self._factor, targets - model.mean)
        self._across = solve(self._factor, model.kernel(features, candidates))  # (n, m)
        self.mean = model.mean + self._white @ self._across
        self.variance = model.variance - (self._across**2).sum(0)

    def __len__(self) -> int:
        return len(self._white)

    @property
    def negative_log_likelihood(self) -> float:
        """Of all targets together, per observation: the mean of what `observe` would have returned for each."""
        return float(np.mean(np.log(self._factor.diagonal()) + _LOG_ROOT + 0.5 * self._white**2))

    def observe(self, place: int, target: float) -> float:
        """Take up the target of the candidate at `place`; how unlikely it was, as a negative log density."""
        n = len(self)
        shared = self._across[:, place].copy()
        pivot = math.sqrt(max(float(self.variance[place]), 0.0) + self._model.noise)
        white = (target - float(self.mean[place])) / pivot
        point = self._candidates[place : place + 1]
        row = (self._model.kernel(point, self._candidates)[0] - shared @ self._across) / pivot
        factor = np.zeros((n + 1, n + 1), order="F")  # as LAPACK reads it, without a copy
        factor[:n, :n], factor[n, :n], factor[n, n] = self._factor, shared, pivot
        self._factor = factor
        self._features = np.concatenate([self._features, point])
        self._white = np.append(self._white, white)
        self._across = np.concatenate([self._across, row[None]])
        self.mean += white * row
        self.variance -= row**2
        return math.log(pivot) + _LOG_ROOT + 0.5 * white**2

    def move(self, place: int, features: Array) -> None:
        """Let the candidate at `place` stand for `features`, shape (1, WIDTH), from now on."""
        column = solve(self._factor, self._model.kernel(self._features, features)[:, 0])
        self._candidates[place] = features[0]
        self._across[:, place] = column
        self.mean[place] = self._model.mean + self._white @ column
        self.variance[place] = self._model.variance - column @ column

    def deviations(self, running: Sequence[int] = ()) -> Array:
        """Standard deviations, shape (m,), as if the candidates at `running` had come out as predicted.

        That leaves all means as they are (kriging believer).
        """
        variance = self.variance
        if running:
            shared = self._across[:, running]  # (n, r)
            points = self._candidates[running]
            covariance = with_noise(self._model.kernel(points, points), self._model.noise) - shared.T @ shared
            rows = solve(cholesky(covariance), self._model.kernel(points, self._candidates) - shared.T @ self._across)
            variance = variance - (rows**2).sum(0)
        deviations: Array = np.sqrt(np.maximum(variance, 1e-12))
        return deviations
