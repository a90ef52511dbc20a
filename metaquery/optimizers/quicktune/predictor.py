"""The performance predictor: a Gaussian process on learned features of config, epoch, curve so far and dataset."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from metaquery.optimizers.quicktune.extractor import Extractor, Shape
from metaquery.optimizers.quicktune.table import Points

_LEAST_NOISE = 1e-4  # variance, of standardised targets
_JITTERS = (1e-8, 1e-6, 1e-4, 1e-2)  # shares of the kernel's variance, tried in turn


class DeepKernelGP(nn.Module):
    """Constant mean, scaled RBF kernel on extracted features, Gaussian noise; exact, in float64."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.extractor = Extractor(shape)
        self.mean = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.log_variance = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.log_length = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.log_noise = nn.Parameter(torch.full((), math.log(0.1), dtype=torch.float64))

    @property
    def noise(self) -> Tensor:
        """Variance of the noise."""
        return _LEAST_NOISE + self.log_noise.exp()

    def kernel(self, left: Tensor, right: Tensor) -> Tensor:
        """Covariances of two sets of features, shape (n_left, n_right)."""
        left, right = left / self.log_length.exp(), right / self.log_length.exp()
        squares = (left**2).sum(1)[:, None] + (right**2).sum(1) - 2.0 * left @ right.T
        return (self.log_variance - 0.5 * squares.clamp(min=0.0)).exp()

    def negative_log_likelihood(self, points: Points, targets: Tensor) -> Tensor:
        """The negative log marginal likelihood of `targets`, shape (n,), per point."""
        features = self.extractor(points)
        value: Tensor = _NegativeLogDensity.apply(self.noisy_kernel(features), targets - self.mean)
        return value / len(targets)

    @torch.no_grad()
    def posterior(self, points: Points, targets: Tensor) -> Posterior:
        """What is known after `targets`, shape (n,), with all parameters fixed. Call `eval` first."""
        features = self.extractor(points)
        return Posterior(self, features, targets, _cholesky(self.noisy_kernel(features)))

    def noisy_kernel(self, features: Tensor) -> Tensor:
        """Covariance of the noisy targets at `features`, shape (n, n)."""
        return self.kernel(features, features) + self.noise * torch.eye(len(features), dtype=torch.float64)


@dataclass(frozen=True)
class Posterior:
    """Observed features, shape (n, WIDTH), targets, shape (n,), and the Cholesky factor of their covariance."""

    model: DeepKernelGP
    features: Tensor
    targets: Tensor
    factor: Tensor

    @torch.no_grad()
    def predict(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the noiseless targets at `features`, both of shape (m,)."""
        across = torch.linalg.solve_triangular(
            self.factor, self.model.kernel(self.features, features), upper=False
        )  # (n, m)
        residual = (self.targets - self.model.mean)[:, None]
        white = torch.linalg.solve_triangular(self.factor, residual, upper=False)
        mean = self.model.mean + (across * white).sum(0)
        variance = self.model.log_variance.exp() - (across**2).sum(0)
        return mean, variance.clamp(min=1e-12).sqrt()

    @torch.no_grad()
    def appended(self, features: Tensor, targets: Tensor) -> Posterior:
        """The posterior after `targets`, shape (m,), at `features` as well: its factor grows by m rows."""
        n, m = len(self.features), len(features)
        across = torch.linalg.solve_triangular(self.factor, self.model.kernel(self.features, features), upper=False)
        factor = torch.zeros((n + m, n + m), dtype=torch.float64)
        factor[:n, :n] = self.factor
        factor[n:, :n] = across.T
        factor[n:, n:] = _cholesky(self.model.noisy_kernel(features) - across.T @ across)
        return Posterior(self.model, torch.cat([self.features, features]), torch.cat([self.targets, targets]), factor)


def _cholesky(covariance: Tensor) -> Tensor:
    """The lower Cholesky factor, with the least jitter that it takes."""
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(covariance)
    for jitter in _JITTERS:
        if not failed:
            break
        diagonal = covariance.diagonal().mean() * jitter
        factor, failed = torch.linalg.cholesky_ex(covariance + diagonal * torch.eye(len(covariance)))
    return factor


class _NegativeLogDensity(torch.autograd.Function):
    """-log N(residual; 0, covariance), with its gradient in closed form: faster than through the factorisation."""

    @staticmethod
    def forward(ctx: Any, covariance: Tensor, residual: Tensor) -> Tensor:
        factor = _cholesky(covariance)
        weights = torch.cholesky_solve(residual[:, None], factor)[:, 0]
        ctx.save_for_backward(factor, weights)
        constant = 0.5 * len(residual) * math.log(2.0 * math.pi)
        value: Tensor = 0.5 * residual @ weights + factor.diagonal().log().sum() + constant
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        factor, weights = ctx.saved_tensors
        inverse = torch.cholesky_inverse(factor)
        return 0.5 * gradient * (inverse - torch.outer(weights, weights)), gradient * weights
