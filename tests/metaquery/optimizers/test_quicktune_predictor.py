"""The predictors' numerics: against another implementation, against plain paths, and without side effects."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from threadpoolctl import threadpool_info

from metaquery.optimizers.quicktune.cost import CostPredictor
from metaquery.optimizers.quicktune.encoding import Encoder, LossScale, MetafeatureScale
from metaquery.optimizers.quicktune.extractor import extract, shape_of
from metaquery.optimizers.quicktune.network import Adam, Parameters, one_thread
from metaquery.optimizers.quicktune.posterior import Posterior
from metaquery.optimizers.quicktune.predictor import DeepKernelGP, cholesky
from metaquery.optimizers.quicktune.table import Points, Table
from metaquery.testing import TOY_SPACE


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


def gp_of(data: Table, grey_box: bool = True) -> DeepKernelGP:
    gp = DeepKernelGP(shape_of(data.encoder, grey_box=grey_box), np.random.default_rng(1))
    for name, value in {"mean": 0.3, "log_variance": 0.4, "log_length": -1.5, "log_noise": -3.0}.items():
        gp.parameters[name][...] = value
    return gp


def reference(gp: DeepKernelGP, features: Any, targets: Any) -> GaussianProcessRegressor:
    kernel = ConstantKernel(gp.variance) * RBF(math.exp(gp.parameters["log_length"]))
    fitted = GaussianProcessRegressor(kernel, alpha=gp.noise, optimizer=None)
    return fitted.fit(features, targets - gp.mean)


def problem(n: int = 40) -> tuple[Table, Points, Any]:
    data = table()
    rows, epochs = data.observed()
    points = data.points(rows[:n], epochs[:n])
    return data, points, data.encoder.losses.standardise(data.losses_at(rows[:n], epochs[:n]))


def upcoming(data: Table) -> Points:
    """The next epoch of every config."""
    run = np.isfinite(data.losses).sum(axis=1)
    return data.points(np.arange(len(data)), np.minimum(run + 1, data.losses.shape[1]))


def test_posterior_and_likelihood_are_those_of_scikit_learn() -> None:
    data, points, targets = problem()
    gp = gp_of(data)
    features, ahead = gp.features(points), gp.features(upcoming(data))
    fitted = reference(gp, features, targets)
    expected_mean, expected_deviation = fitted.predict(ahead, return_std=True)
    posterior = Posterior(gp, features, targets, ahead)
    np.testing.assert_allclose(posterior.mean - gp.mean, expected_mean, atol=1e-9)
    np.testing.assert_allclose(posterior.deviations(), expected_deviation, atol=1e-7)
    value = -fitted.log_marginal_likelihood_value_ / len(targets)
    assert gp.loss(points, targets) == pytest.approx(value, rel=1e-10)
    assert posterior.negative_log_likelihood == pytest.approx(value, rel=1e-10)


def models(data: Table, points: Points, targets: Any, grey_box: bool) -> list[tuple[Any, Any]]:
    seconds = 1.0 + np.random.default_rng(2).random(len(targets))
    seconds[:2] = 0.0, math.nan
    cost = CostPredictor(shape_of(data.encoder, grey_box=grey_box), np.random.default_rng(0))
    return [(gp_of(data, grey_box), targets), (cost, seconds)]


@pytest.mark.parametrize("grey_box", [True, False])
@pytest.mark.parametrize("dropout", [None, 7])
def test_gradients_are_those_of_finite_differences(grey_box: bool, dropout: int | None) -> None:
    data, points, targets = problem(20)
    for model, values in models(data, points, targets, grey_box):

        def loss(gradient: Parameters | None = None, model: Any = model, values: Any = values) -> float:
            rng = None if dropout is None else np.random.default_rng(dropout)  # the same units dropped each time
            return float(model.loss(points, values, gradient, rng))

        gradient = model.parameters.like()
        assert loss(gradient) == pytest.approx(loss())
        checked = 0
        for name in model.parameters.arrays():
            flat, slopes = model.parameters[name].reshape(-1), gradient[name].reshape(-1)
            place, around = int(np.abs(slopes).argmax()), []
            for step in (1e-5, -1e-5):  # smaller ones drown slopes of zero in the rounding of the loss
                old = float(flat[place])
                flat[place] = old + step
                around.append(loss())
                flat[place] = old
            slope = 0.0 if name == "offset" else (around[0] - around[1]) / 2e-5
            assert slopes[place] == pytest.approx(slope, rel=1e-3, abs=1e-7), name
            checked += abs(slope) > 1e-6
        assert checked > 10


def test_the_extractor_is_the_one_of_torch() -> None:
    """Layers, padding, pooling of an odd number of epochs, and the start of the weights, against the framework's."""
    torch = pytest.importorskip("torch")
    data, points, _ = problem(25)
    shape = shape_of(data.encoder, grey_box=True)
    parameters = Parameters(shape.parameters)
    parameters.draw(np.random.default_rng(0))
    part = {name: torch.from_numpy(array) for name, array in parameters.arrays().items()}
    functional = torch.nn.functional

    def linear(name: str, x: Any) -> Any:
        return functional.linear(x, part[f"{name}.weight"].T, part[f"{name}.bias"])

    def convolve(name: str, x: Any, channels: int) -> Any:
        weight = part[f"{name}.weight"].reshape(3, channels, 8).permute(2, 1, 0)
        return functional.conv1d(x, weight, part[f"{name}.bias"], padding=1)

    inputs = [torch.from_numpy(array) for array in (points.backbones, points.others, points.prefixes)]
    curve = convolve("curve.1", convolve("curve.0", inputs[2][:, None], 1).relu(), 8)
    pooled = functional.max_pool1d(curve, 2, ceil_mode=True).permute(0, 2, 1).flatten(1)
    meta = linear("meta.0", torch.from_numpy(points.metafeatures)).expand(25, -1)
    two = [linear(f"{name}.1", linear(f"{name}.0", x).relu()) for name, x in zip(("backbone", "others"), inputs)]
    joined = torch.cat([*two, torch.from_numpy(points.epochs)[:, None], linear("curve.2", pooled), meta], dim=1)
    expected = linear("joined.1", functional.leaky_relu(linear("joined.0", joined)))
    np.testing.assert_allclose(extract(shape, parameters, points)[0], expected.numpy(), rtol=0, atol=1e-12)
    for name, width in (("joined.1", 32), ("curve.1", 24)):
        bound = width**-0.5
        drawn = np.abs(parameters[f"{name}.weight"])
        assert 0.9 * bound < drawn.max() <= bound


def test_steps_are_those_of_torch_adam() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    mine, gradient = Parameters({"a": (3, 2), "b": ()}), Parameters({"a": (3, 2), "b": ()})
    mine.flat[:] = rng.normal(size=7)
    theirs = torch.from_numpy(mine.flat.copy()).requires_grad_()
    adam, reference_adam = Adam(mine), torch.optim.Adam([theirs], lr=0.01)
    for _ in range(5):
        gradient.flat[:] = rng.normal(size=7)
        adam.step(gradient, 0.01)
        theirs.grad = torch.from_numpy(gradient.flat.copy())
        reference_adam.step()
    np.testing.assert_allclose(mine.flat, theirs.detach().numpy(), rtol=0, atol=1e-12)


def same(one: Posterior, other: Posterior) -> None:
    np.testing.assert_allclose(one.mean, other.mean, rtol=0, atol=1e-9)
    np.testing.assert_allclose(one.deviations(), other.deviations(), rtol=0, atol=1e-7)


def test_a_grown_posterior_is_the_one_made_at_once() -> None:
    """Half of the observations at once, the others one by one, each at what a candidate stood for by then."""
    data, points, targets = problem(24)
    gp = gp_of(data)
    features, ahead = gp.features(points), gp.features(upcoming(data))
    grown = Posterior(gp, features[:12], targets[:12], ahead)
    first = 12 * grown.negative_log_likelihood
    surprise = 0.0
    for i in range(12, 24):
        grown.move(i % 5, features[i : i + 1])
        surprise += grown.observe(i % 5, float(targets[i]))
    for place in range(5):
        grown.move(place, ahead[place : place + 1])
    whole = Posterior(gp, features, targets, ahead)
    same(grown, whole)
    assert len(grown) == 24
    assert first + surprise == pytest.approx(24 * whole.negative_log_likelihood), "densities multiply to the joint one"
    assert grown.negative_log_likelihood == pytest.approx(whole.negative_log_likelihood)


def test_running_ones_count_as_having_come_out_as_predicted() -> None:
    data, points, targets = problem(24)
    gp = gp_of(data)
    features, ahead, running = gp.features(points), gp.features(upcoming(data)), [3, 7]
    posterior = Posterior(gp, features, targets, ahead)
    both = np.concatenate([features, ahead[running]]), np.concatenate([targets, posterior.mean[running]])
    believed = Posterior(gp, *both, ahead)
    np.testing.assert_allclose(posterior.deviations(running), believed.deviations(), rtol=0, atol=1e-7)
    np.testing.assert_allclose(posterior.mean, believed.mean, rtol=0, atol=1e-9)


def test_points_on_top_of_each_other_have_a_factor() -> None:
    factor = cholesky(np.ones((5, 5)))
    np.testing.assert_allclose(factor @ factor.T, np.ones((5, 5)), rtol=0, atol=1e-6)


def test_points_hold_the_curve_before_them_and_nothing_after() -> None:
    data = table(n=2, epochs=4)
    data.losses[:] = [[0.5, 0.25, 0.1, 0.0], [0.4, math.nan, math.nan, math.nan]]
    points = data.points(np.array([0, 0, 1, 1]), np.array([1, 3, 1, 2]))
    expected = [[0.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0], [0.0] * 4, [0.2, 0.0, 0.0, 0.0]]
    np.testing.assert_allclose(points.prefixes, expected, atol=1e-12)
    assert points.started.tolist() == [False, True, False, True]
    assert points.epochs.tolist() == [0.25, 0.75, 0.25, 0.5]
    rows, epochs = data.observed()
    assert list(zip(rows.tolist(), epochs.tolist(), strict=True)) == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1)]


@pytest.mark.parametrize("grey_box", [True, False])
def test_features_of_a_point_do_not_depend_on_the_others(grey_box: bool) -> None:
    data = table()
    rows, epochs = data.observed()
    gp = gp_of(data, grey_box)
    alone = [gp.features(data.points(rows[i : i + 1], epochs[i : i + 1])) for i in range(len(rows))]
    together = gp.features(data.points(rows, epochs))
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=0, atol=1e-12)


def test_only_a_grey_box_reads_the_curve() -> None:
    data = table(n=3, epochs=9)
    at = np.arange(3), np.full(3, 5)
    for grey_box in (True, False):
        data.losses[:] = 0.4
        gp = gp_of(data, grey_box)
        before = gp.features(data.points(*at))
        data.losses[:, 2] = 0.1
        assert bool((gp.features(data.points(*at)) != before).any()) is grey_box


def test_the_cost_predictor_ignores_seconds_that_are_not_positive() -> None:
    data, points, _ = problem(10)
    cost = CostPredictor(shape_of(data.encoder, grey_box=True), np.random.default_rng(0))
    seconds = np.array([2.0, 8.0, 0.0, math.nan, *[4.0] * 6])
    cost.centre(seconds)
    assert float(cost.parameters["offset"]) == pytest.approx(math.log(4.0))
    known = [0, 1, *range(4, 10)]
    expected = ((cost.log_seconds(points)[known] - np.log(seconds[known])) ** 2).mean()
    assert cost.loss(points, seconds) == pytest.approx(expected)
    assert cost.loss(points, np.zeros(10)) == 0.0


def test_threads_are_left_as_they_were() -> None:
    before = threadpool_info()
    with one_thread():
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}
    assert threadpool_info() == before
