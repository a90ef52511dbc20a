"""BOHB: its densities by hand, its brackets, and that its model helps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from metaquery.errors import InvalidInput
from metaquery.optimizers import optimizer
from metaquery.optimizers.bohb import Density
from metaquery.space import Condition, Hyperparameter, SearchSpace
from metaquery.types import Observation, Status, Task

SPACE = SearchSpace(
    "density",
    (
        Hyperparameter("kind", "categorical", "a", choices=("a", "b", "c")),
        Hyperparameter("x", "float", 0.5, low=0.0, high=1.0),
        Hyperparameter("only_b", "float", 0.5, low=0.0, high=1.0, condition=Condition("kind", ("b",))),
    ),
)


def config(kind: str, x: float, only_b: float = 0.5) -> Any:
    return SPACE.complete({"kind": kind, "x": x, "only_b": only_b} if kind == "b" else {"kind": kind, "x": x})


def test_the_density_is_the_mean_of_products_of_kernels() -> None:
    points = [config("a", 0.2), config("a", 0.4), config("b", 0.6, 0.3)]
    scott = 1.06 * 3 ** (-1 / 7)
    kind = scott * np.std([1 / 6, 1 / 6, 1 / 2])
    x = scott * np.std([0.2, 0.4, 0.6])

    def gauss(gap: float, width: float) -> float:
        return math.exp(-0.5 * (gap / width) ** 2) / width

    density = Density(SPACE, points)
    assert density.log([config("a", 0.4)])[0] == pytest.approx(
        math.log(((1 - kind) * (gauss(0.2, x) + gauss(0.0, x)) + kind / 2 * gauss(0.2, x)) / 3)
    )
    # only_b counts for the one point where it is active, with the least bandwidth
    only_b = gauss(0.001, 1e-3)
    assert density.log([config("b", 0.6, 0.301)])[0] == pytest.approx(
        math.log((kind / 2 * (gauss(0.4, x) + gauss(0.2, x)) + (1 - kind) * gauss(0.0, x) * only_b) / 3)
    )


def test_samples_lie_around_the_points() -> None:
    rng = np.random.default_rng(0)
    density = Density(SPACE, [config("a", x) for x in (0.30, 0.31, 0.32)])
    samples = [density.sample(rng) for _ in range(300)]
    assert all(SPACE.config(sample) == sample for sample in samples)
    assert sum(sample["kind"] == "a" for sample in samples) > 290
    assert np.std([sample["x"] for sample in samples]) < 0.06


def final_losses(name: str, seed: int) -> float:
    one = optimizer(name, seed=seed)
    one.bind(Task(SPACE, 27, 1.0))
    losses = []
    for _ in range(250):
        suggestion = one.ask()
        assert suggestion is not None
        x, bonus = float(suggestion.config["x"]), 0.3 * (suggestion.config["kind"] == "b")
        loss = 0.5 + 0.4 * abs(x - 0.9) - bonus
        losses.append(loss)
        one.tell(suggestion, Observation(loss, 1.0, Status.COMPLETED))
    return float(np.mean(losses[150:]))


def test_its_new_configs_are_better_than_hyperbands() -> None:
    assert np.mean([final_losses("bohb", s) for s in range(3)]) < np.mean(
        [final_losses("hyperband", s) for s in range(3)]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"good": 1.5}, "good of bohb must be from 0 to 1, got 1.5"),
        ({"random_fraction": -0.1}, "random_fraction of bohb must be from 0 to 1"),
        ({"n_samples": 0}, "n_samples of bohb must be at least 1, got 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        optimizer("bohb", **options).bind(Task(SPACE, 27, 1.0))
