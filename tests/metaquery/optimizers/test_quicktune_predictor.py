"""The predictors' numerics: against another implementation, against plain paths, and without side effects."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sklearn.gaussian_process import GaussianProcessRegressor  # noqa: E402
from sklearn.gaussian_process.kernels import RBF, ConstantKernel  # noqa: E402

from metaquery.optimizers.quicktune.cost import CostPredictor  # noqa: E402
from metaquery.optimizers.quicktune.encoding import Encoder, LossScale, MetafeatureScale  # noqa: E402
from metaquery.optimizers.quicktune.extractor import Extractor, contained, shape_of  # noqa: E402
from metaquery.optimizers.quicktune.predictor import (  # noqa: E402
    DeepKernelGP,
    Posterior,
    _cholesky,
    _NegativeLogDensity,
)
from metaquery.optimizers.quicktune.table import Points, Table  # noqa: E402
from metaquery.testing import TOY_SPACE  # noqa: E402


def table(n: int = 30, epochs: int = 9, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    configs = [TOY_SPACE.sample(rng) for _ in range(n)]
    scale = MetafeatureScale.of([{"n": 1.0}, {"n": 5.0}])
    result = Table(Encoder(Encoder.axes_of(configs), epochs, LossScale(0.5, 0.3, 0.1), scale), configs, {"n": 3.0})
    for row in range(n):
        run = int(rng.integers(0, epochs + 1))
        result.losses[row, :run] = 0.1 + 0.4 * rng.random(run)
        result.seconds[row, :run] = 1.0 + rng.random(run)
    return result


def gp_of(data: Table, **changed: float) -> DeepKernelGP:
    with contained(1):
        gp = DeepKernelGP(shape_of(data.encoder, grey_box=True)).eval()
    with torch.no_grad():
        for name, value in {"mean": 0.3, "log_variance": 0.4, "log_length": -1.5, "log_noise": -3.0, **changed}.items():
            getattr(gp, name).fill_(value)
    return gp


def reference(gp: DeepKernelGP, features: Any, targets: Any) -> GaussianProcessRegressor:
    kernel = ConstantKernel(gp.log_variance.exp().item()) * RBF(gp.log_length.exp().item())
    fitted = GaussianProcessRegressor(kernel, alpha=gp.noise.item(), optimizer=None)
    return fitted.fit(features.numpy(), targets.numpy() - gp.mean.item())


def problem(n: int = 40) -> tuple[Table, Any, Any]:
    data = table()
    rows, epochs = data.observed()
    points = data.points(rows[:n], epochs[:n])
    return data, points, torch.from_numpy(data.encoder.losses.standardise(data.losses_at(rows[:n], epochs[:n])))


def upcoming(data: Table) -> Points:
    """The next epoch of every config."""
    run = np.isfinite(data.losses).sum(axis=1)
    return data.points(np.arange(len(data)), np.minimum(run + 1, data.losses.shape[1]))


def test_posterior_and_likelihood_are_those_of_scikit_learn() -> None:
    data, points, targets = problem()
    gp = gp_of(data)
    with torch.no_grad():
        features = gp.extractor(points)
        ahead = gp.extractor(upcoming(data))
        value = float(gp.negative_log_likelihood(points, targets)) * len(targets)
    fitted = reference(gp, features, targets)
    expected_mean, expected_deviation = fitted.predict(ahead.numpy(), return_std=True)
    mean, deviation = gp.posterior(points, targets).predict(ahead)
    np.testing.assert_allclose(mean.numpy() - gp.mean.item(), expected_mean, atol=1e-9)
    np.testing.assert_allclose(deviation.numpy(), expected_deviation, atol=1e-7)
    assert value == pytest.approx(-fitted.log_marginal_likelihood_value_, rel=1e-10)


def test_gradient_of_the_likelihood_by_finite_differences() -> None:
    data, points, targets = problem(20)
    gp = gp_of(data)
    gp.negative_log_likelihood(points, targets).backward()
    checked = 0
    for name, parameter in gp.named_parameters():
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        place = int(gradient.abs().argmax())
        around = []
        for step in (1e-5, -1e-5):
            old = float(flat[place])
            flat[place] = old + step
            around.append(gp.negative_log_likelihood(points, targets).item())
            flat[place] = old
        slope = (around[0] - around[1]) / 2e-5
        assert float(gradient[place]) == pytest.approx(slope, rel=1e-4, abs=1e-8), name
        checked += abs(slope) > 1e-6
    assert checked > 10


def test_gradient_with_respect_to_every_covariance() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, dtype=torch.float64, generator=generator)
    covariance = (root @ root.T + 6.0 * torch.eye(6)).requires_grad_()
    residual = torch.randn(6, dtype=torch.float64, generator=generator).requires_grad_()
    symmetric = lambda k, r: _NegativeLogDensity.apply(0.5 * (k + k.T), r)  # noqa: E731
    assert torch.autograd.gradcheck(symmetric, (covariance, residual))
    plain = -torch.distributions.MultivariateNormal(torch.zeros(6, dtype=torch.float64), covariance).log_prob(residual)
    assert _NegativeLogDensity.apply(covariance, residual).item() == pytest.approx(plain.item())


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_grown_posterior_is_the_one_made_at_once(at_once: int) -> None:
    data, points, targets = problem(24)
    gp = gp_of(data)
    whole = gp.posterior(points, targets)
    grown = Posterior(gp, whole.features[:12], targets[:12], _cholesky(gp.noisy_kernel(whole.features[:12])))
    for start in range(12, 24, at_once):
        part = slice(start, start + at_once)
        grown = grown.appended(whole.features[part], targets[part])
    torch.testing.assert_close(grown.factor, whole.factor, rtol=0, atol=1e-10)
    ahead = gp.extractor(upcoming(data))
    for one, other in zip(grown.predict(ahead), whole.predict(ahead), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_points_on_top_of_each_other_have_a_factor() -> None:
    covariance = torch.ones(5, 5, dtype=torch.float64)
    factor = _cholesky(covariance)
    torch.testing.assert_close(factor @ factor.T, covariance, rtol=0, atol=1e-6)


def test_points_hold_the_curve_before_them_and_nothing_after() -> None:
    data = table(n=2, epochs=4)
    data.losses[:] = [[0.5, 0.25, 0.1, 0.0], [0.4, math.nan, math.nan, math.nan]]
    points = data.points(np.array([0, 0, 1, 1]), np.array([1, 3, 1, 2]))
    expected = [[0.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0], [0.0] * 4, [0.2, 0.0, 0.0, 0.0]]
    np.testing.assert_allclose(points.prefixes.numpy(), expected, atol=1e-12)
    assert points.started.tolist() == [False, True, False, True]
    assert points.epochs.tolist() == [0.25, 0.75, 0.25, 0.5]
    rows, epochs = data.observed()
    assert list(zip(rows.tolist(), epochs.tolist(), strict=True)) == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1)]


@pytest.mark.parametrize("grey_box", [True, False])
def test_features_of_a_point_do_not_depend_on_the_others(grey_box: bool) -> None:
    data = table()
    rows, epochs = data.observed()
    with contained(0):
        extractor = Extractor(shape_of(data.encoder, grey_box=grey_box)).eval()
    with torch.no_grad():
        together = extractor(data.points(rows, epochs))
        alone = [extractor(data.points(rows[i : i + 1], epochs[i : i + 1])) for i in range(len(rows))]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-12)


def test_only_a_grey_box_reads_the_curve() -> None:
    data = table(n=3, epochs=9)
    data.losses[:] = 0.4
    at = np.arange(3), np.full(3, 5)
    for grey_box in (True, False):
        with contained(0):
            extractor = Extractor(shape_of(data.encoder, grey_box=grey_box)).eval()
        before = extractor(data.points(*at))
        data.losses[:, 2] = 0.1
        assert bool((extractor(data.points(*at)) != before).any()) is grey_box
        data.losses[:, 2] = 0.4


def test_the_cost_predictor_ignores_seconds_that_are_not_positive() -> None:
    data, points, _ = problem(10)
    with contained(0):
        cost = CostPredictor(shape_of(data.encoder, grey_box=True)).eval()
    seconds = torch.tensor([2.0, 8.0, 0.0, math.nan, *[4.0] * 6], dtype=torch.float64)
    cost.centre(seconds)
    assert float(cost.offset) == pytest.approx(math.log(4.0))
    known = torch.tensor([0, 1, *range(4, 10)])
    expected = ((cost(points)[known] - seconds[known].log()) ** 2).mean().item()
    assert cost.squared_error(points, seconds).item() == pytest.approx(expected)
    assert cost.squared_error(points, torch.zeros(10, dtype=torch.float64)).item() == 0.0


def test_torch_is_left_as_it_was() -> None:
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    with contained(3):
        drawn = torch.rand(2)
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)
    with contained(3):
        assert torch.equal(torch.rand(2), drawn)
