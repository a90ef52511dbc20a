"""Main effects of the forest on tables whose effects are known."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest

from metaquery.diagnostics.forest import MIN_R2, importance
from metaquery.space import Condition, Hyperparameter, SearchSpace

SPACE = SearchSpace(
    "toy",
    (
        Hyperparameter("net", "categorical", "a", choices=("a", "b", "c")),
        Hyperparameter("rate", "float", 0.01, low=1e-4, high=1.0, log=True),
        Hyperparameter("optimizer", "categorical", "sgd", choices=("sgd", "adam")),
        Hyperparameter("momentum", "float", 0.5, low=0.0, high=1.0, condition=Condition("optimizer", ("sgd",))),
        Hyperparameter("batch", "ordinal", 16, choices=(16, 32)),
    ),
)
RATES, MOMENTA = (1e-4, 1e-2, 1.0), (0.0, 0.5, 1.0)
# A complete factorial: 3 nets, 3 rates, 3 momenta with SGD and Adam, twice; the batch size never varies.
TABLE: list[dict[str, Any]] = [
    {"net": net, "rate": rate, "optimizer": optimizer, "momentum": momentum, "batch": 16}
    for net, rate, (optimizer, momentum), _ in product(
        "abc", RATES, [("adam", None), *(("sgd", momentum) for momentum in MOMENTA)], range(2)
    )
]


def test_additive_effects_are_divided_by_their_variance() -> None:
    scores = np.array([3.0 * RATES.index(c["rate"]) + "abc".index(c["net"]) for c in TABLE])
    found = importance(SPACE, TABLE, scores)
    assert found.r2 > 0.97
    assert found.shares["rate"] == pytest.approx(0.9, abs=0.02)  # variances of 9 and 1 to each other
    assert found.shares["net"] == pytest.approx(0.1, abs=0.02)
    assert found.shares["optimizer"] < 0.01
    assert list(found.shares) == ["net", "rate", "optimizer", "momentum"]


def test_an_interaction_is_nobodys_main_effect() -> None:
    scores = np.array([(c["rate"] > 0.1) ^ (c["optimizer"] == "adam") for c in TABLE], dtype=float)
    few = [i for i, c in enumerate(TABLE) if c["rate"] != 1e-2 and c["momentum"] in (None, 0.5)]
    found = importance(SPACE, [TABLE[i] for i in few], scores[few])
    assert found.r2 > 0.5
    assert max(found.shares["rate"], found.shares["optimizer"]) < 0.05


def test_a_conditional_one_is_judged_where_it_is_active() -> None:
    scores = np.array([100.0 if c["momentum"] is None else MOMENTA.index(c["momentum"]) for c in TABLE])
    found = importance(SPACE, TABLE, scores)
    assert found.shares["momentum"] > 0.9  # next to nothing of the variance over all configs
    assert found.shares["optimizer"] > 0.9


def test_a_number_with_many_values_has_levels() -> None:
    rng = np.random.default_rng(0)
    rates = np.exp(rng.uniform(np.log(1e-4), 0, 200))
    settings = [{"net": "a", "rate": float(rate), "optimizer": "adam", "momentum": None, "batch": 16} for rate in rates]
    found = importance(SPACE, settings, np.log(rates))
    assert found.shares == {"rate": pytest.approx(1.0, abs=0.05)}


def test_a_forest_that_knows_nothing_is_not_asked() -> None:
    found = importance(SPACE, TABLE, np.random.default_rng(1).normal(size=len(TABLE)))
    assert found.r2 < MIN_R2
    assert all(map(math.isnan, found.shares.values()))


def test_too_few_configs_are_no_table() -> None:
    scores = np.array([RATES.index(c["rate"]) for c in TABLE], dtype=float)
    found = importance(SPACE, TABLE[::4], scores[::4])
    assert math.isnan(found.r2)
    assert all(map(math.isnan, found.shares.values()))
    assert "rate" in found.shares
    few_sgd = [i for i, c in enumerate(TABLE) if c["optimizer"] == "adam"] * 2
    few_sgd += [i for i, c in enumerate(TABLE) if c["optimizer"] == "sgd"][:19]
    found = importance(SPACE, [TABLE[i] for i in few_sgd], scores[few_sgd])
    assert math.isnan(found.shares["momentum"])
    assert found.shares["rate"] > 0.9
