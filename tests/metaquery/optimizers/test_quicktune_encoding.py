"""What the predictors of Quick-Tune read: configs, losses and meta-features as numbers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaquery.optimizers.quicktune.encoding import Axis, Encoder, LossScale, MetafeatureScale
from metaquery.space import Config
from metaquery.testing import TOY_SPACE

SCALE = LossScale(useless=0.5, mean=0.2, deviation=0.1)


def columns(name: str, configs: list[Config], at: Config) -> list[float]:
    return Axis.of(name, configs).columns([at])[0].tolist()


def test_a_number_with_few_values_is_its_place_among_them() -> None:
    configs = [Config({"decay": value}) for value in (0.0, 1e-5, 1e-3, 1e-1)]
    places = [columns("decay", configs, config)[0] for config in configs]
    assert places == pytest.approx([0.0, 1 / 3, 2 / 3, 1.0])
    assert columns("decay", configs, Config({"decay": 10.0})) == [1.0], "beyond what was seen counts as its end"


@pytest.mark.parametrize(("low", "high", "middle"), [(1e-5, 1e-1, 1e-3), (0.0, 0.5, 0.25), (1.0, 50.0, 25.5)])
def test_a_continuous_number_is_linear_or_logarithmic(low: float, high: float, middle: float) -> None:
    values = np.geomspace(low, high, 20) if low and high / low > 100 else np.linspace(low, high, 20)
    configs = [Config({"x": float(value)}) for value in values]
    assert columns("x", configs, Config({"x": middle})) == pytest.approx([0.5])
    assert columns("x", configs, Config({"x": low / 2})) == [0.0]


def test_inactive_is_zero_and_says_so() -> None:
    configs = [Config({"momentum": 0.5}), Config({"momentum": 0.9}), Config({})]
    axis = Axis.of("momentum", configs)
    assert axis.columns(configs).tolist() == [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    only = Axis.of("momentum", configs[1:])
    assert only.columns(configs[1:]).tolist() == [[1.0], [0.0]]


def test_categories_are_one_hot_and_unseen_ones_are_zero() -> None:
    configs = [Config({"schedule": value}) for value in ("step", "cosine")]
    assert Axis.of("schedule", configs).columns(configs).tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert columns("schedule", configs, Config({"schedule": "new"})) == [0.0, 0.0]
    assert columns("schedule", configs, Config({})) == [0.0, 0.0]
    assert Axis.of("schedule", configs[:1]).width == 0, "what cannot vary says nothing"


def test_the_backbone_stands_apart() -> None:
    configs = [Config({"backbone": name, "lr": lr}) for name in ("b", "a", "c") for lr in (0.1, 0.2)]
    encoder = Encoder(Encoder.axes_of(configs), 27, SCALE)
    backbones, others = encoder.configs([Config({"backbone": "c", "lr": 0.2}), Config({"backbone": "new", "lr": 0.1})])
    assert backbones.tolist() == [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    assert others.tolist() == [[1.0], [0.0]]
    assert (encoder.n_backbones, encoder.n_others) == (3, 1)


def test_configs_that_do_not_vary_still_have_a_column() -> None:
    encoder = Encoder(Encoder.axes_of([Config({"lr": 0.1})]), 27, SCALE)
    backbones, others = encoder.configs([Config({"lr": 0.1})])
    assert (backbones.shape, others.shape) == ((1, encoder.n_backbones), (1, encoder.n_others)) == ((1, 1), (1, 1))


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 40))
@settings(max_examples=30, deadline=None)
def test_columns_lie_in_the_unit_interval_whatever_the_order(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    configs = [TOY_SPACE.sample(rng) for _ in range(n)]
    axes = Encoder.axes_of(configs)
    assert axes == Encoder.axes_of([configs[i] for i in rng.permutation(n)])
    encoder = Encoder(axes, 27, SCALE)
    everything = np.hstack(encoder.configs([*configs, TOY_SPACE.sample(rng)]))
    assert everything.shape == (n + 1, encoder.n_backbones + encoder.n_others)
    assert np.isfinite(everything).all()
    assert everything.min() >= 0.0
    assert everything.max() <= 1.0
    assert Encoder.from_json(json.loads(json.dumps(encoder.to_json()))) == encoder


def test_losses_as_scores_and_targets() -> None:
    scale = LossScale.of(np.array([[0.1, 0.3], [np.nan, 9.0]]), useless=0.5)
    assert scale.scores(np.array([0.0, 0.5, 0.75, 9.0])).tolist() == [1.0, 0.0, -0.5, -1.0]
    targets = scale.standardise(np.array([0.1, 0.3, 9.0]))
    assert (targets.mean(), targets.std()) == pytest.approx((0.0, 1.0))
    assert math.isnan(scale.scores(np.array([np.nan]))[0])
    assert np.isfinite(LossScale.of(np.array([0.2]), 1.0).standardise(np.array([0.2, 0.9]))).all()


def test_metafeatures_are_standardised_and_may_be_missing() -> None:
    training = [{"n": 10.0, "skew": -2.0}, {"n": 1000.0, "skew": 2.0}, {"n": 100.0, "odd": 3.0, "bad": math.nan}]
    scale = MetafeatureScale.of(training)
    assert scale.names == ("n", "odd", "skew")
    rows = np.array([scale(item) for item in training])
    assert rows[:, 0].mean() == pytest.approx(0.0)
    assert rows[:, 0].std() == pytest.approx(1.0)
    assert rows[0, 2] == pytest.approx(-rows[1, 2])
    assert scale({"skew": math.nan, "unknown": 1.0}).tolist() == [0.0, 0.0, 0.0]
    assert np.abs(scale({"n": 1e300, "odd": -1e300})).max() == 5.0
    assert MetafeatureScale()({"n": 1.0}).shape == (0,)
