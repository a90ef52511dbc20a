"""The performance predictor: a Gaussian process on learned features of config, epoch, curve so far and dataset."""

from __future__ import annotations

import math

import numpy as np

from metaquery.optimizers.quicktune.encoding import Array
from metaquery.optimizers.quicktune.extractor import Shape, extract, extract_back
from metaquery.optimizers.quicktune.network import Parameters
from metaquery.optimizers.quicktune.table import Points

_LEAST_NOISE = 1e-4  # variance, of standardised targets
_FIRST_NOISE = 0.1
_JITTERS = (0.0, 1e-8, 1e-6, 1e-4, 1e-2)  # shares of the kernel's variance, tried in turn


class DeepKernelGP:
    """Constant mean, scaled RBF kernel on extracted features, Gaussian noise; exact, in float64."""

    def __init__(self, shape: Shape, rng: np.random.Generator) -> None:
        self._shape = shape
        scalars = dict.fromkeys(("mean", "log_variance", "log_length", "log_noise"), ())
        self.parameters = Parameters({**shape.parameters, **scalars})
        self.parameters.draw(rng)
        self.parameters["log_noise"][...] = math.log(_FIRST_NOISE)

    @property
    def mean(self) -> float:
        """Of the targets, before anything is observed."""
        return float(self.parameters["mean"])

    @property
    def variance(self) -> float:
        """Of the noiseless targets, before anything is observed."""
        return math.exp(self.parameters["log_variance"])

    @property
    def noise(self) -> float:
        """Variance of the noise."""
        return _LEAST_NOISE + math.exp(self.parameters["log_noise"])

    def features(self, points: Points) -> Array:
        """Shape (n, WIDTH)."""
        return extract(self._shape, self.parameters, points)[0]

    def kernel(self, left: Array, right: Array) -> Array:
        """Covariances of two sets of features, shape (n_left, n_right)."""
        squares = _squares(left, right) / math.exp(2.0 * self.parameters["log_length"])
        covariances: Array = np.exp(self.parameters["log_variance"] - 0.5 * squares)
        return covariances

    def loss(
        self,
        points: Points,
        targets: Array,
        /,
        gradient: Parameters | None = None,
        dropout: np.random.Generator | None = None,
    ) -> float:
        """The negative log marginal likelihood of `targets`, shape (n,), per point; sets `gradient` where given."""
        from scipy.linalg.lapack import dpotri

        p, n = self.parameters, len(targets)
        features, kept = extract(self._shape, p, points, dropout)
        covariance = self.kernel(features, features)
        factor = cholesky(with_noise(covariance, self.noise))
        residual = targets - self.mean
        white = solve(factor, residual)
        value = (0.5 * white @ white + np.log(factor.diagonal()).sum()) / n + 0.5 * math.log(2.0 * math.pi)
        if gradient is not None:
            weights = solve(factor, white, transposed=True)
            lower, _ = dpotri(factor, lower=1)
            inverse = np.tril(lower) + np.tril(lower, -1).T
            dcovariance = (0.5 / n) * (inverse - np.outer(weights, weights))
            pull = dcovariance * covariance  # by minus half the scaled squared distance
            dfeatures = 2.0 / math.exp(2.0 * p["log_length"]) * (pull @ features - pull.sum(1)[:, None] * features)
            gradient["mean"][...] = -weights.sum() / n
            gradient["log_variance"][...] = pull.sum()
            gradient["log_length"][...] = -(dfeatures * features).sum()
            gradient["log_noise"][...] = dcovariance.trace() * math.exp(p["log_noise"])
            extract_back(self._shape, p, gradient, points, kept, dfeatures)
        return float(value)


def with_noise(covariance: Array, noise: float) -> Array:
    """`covariance`, shape (n, n), with `noise` added on the diagonal."""
    noisy = covariance.copy()
    noisy.flat[:: len(noisy) + 1] += noise
    return noisy


def cholesky(covariance: Array) -> Array:
    """The lower Cholesky factor, shape (n, n), with the least jitter that it takes."""
    from scipy.linalg.lapack import dpotrf

    for jitter in _JITTERS:
        factor, failed = dpotrf(with_noise(covariance, jitter * covariance.diagonal().mean()), lower=1, clean=1)
        if not failed:
            break
    lower: Array = factor
    return lower


def solve(factor: Array, right: Array, *, transposed: bool = False) -> Array:
    """The solution of the lower triangular system, or of its transpose, for `right`, shape (n,) or (n, m)."""
    from scipy.linalg.lapack import dtrtrs

    solution: Array = dtrtrs(factor, right, lower=1, trans=int(transposed))[0]
    return solution


def _squares(left: Array, right: Array) -> Array:
    squares: Array = (left**2).sum(1)[:, None] + (right**2).sum(1) - 2.0 * left @ right.T
    return np.maximum(squares, 0.0)
