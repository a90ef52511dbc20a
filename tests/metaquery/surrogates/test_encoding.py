"""Configs as knots: one and many find the same ones and refuse the same configs, and inactive is a state of its own."""

from __future__ import annotations

import math
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from factory import unchecked_config
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from metaquery.errors import InvalidConfig, UnknownName
from metaquery.space import Condition, Config, Hyperparameter, SearchSpace
from metaquery.surrogates.encoding import Encoder
from metaquery.surrogates.trials import Task

MANY = tuple(f"m{place}" for place in range(300))  # more choices than a byte can count
SPACE = SearchSpace(
    "kinds",
    (
        Hyperparameter("model", "categorical", "a", choices=("a", "b", "c")),
        Hyperparameter("depth", "integer", 2, low=1, high=4, condition=Condition("model", ("a", "b"))),
        Hyperparameter("drop", "float", 0.1, low=0.0, high=0.5, condition=Condition("model", ("a", "b"))),
        Hyperparameter("skip", "ordinal", 0.5, choices=(0.0, 0.5, 1.0), condition=Condition("depth", (3, 4))),
        Hyperparameter("rate", "float", 0.01, low=1e-4, high=1.0, log=True),
        Hyperparameter("name", "categorical", "m7", choices=MANY, condition=Condition("skip", (0.5, 1.0))),
        Hyperparameter("trees", "integer", 50, low=10, high=500, log=True, condition=Condition("model", ("c",))),
    ),
)
ABSENT = object()
ODD: list[Any] = [
    ABSENT,
    None,
    True,
    "a",
    "m3",
    0.5,
    3,
    2.0,
    1e9,
    10**400,
    -1,
    math.nan,
    math.inf,
    ["a"],
    np.float64(0.25),
]


def encoder_of(space: SearchSpace) -> Encoder:
    return Encoder(space, [Task("x", 0, {})])


ENCODER = encoder_of(SPACE)


def dense(encoder: Encoder, config: Config) -> NDArray[np.float32]:
    found = np.zeros(encoder.first_task, np.float32)
    np.add.at(found, *map(np.array, encoder.one(config)))
    return found


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 12))
def test_many_are_each_one(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    configs = [SPACE.sample(rng) for _ in range(n)]
    for row, config in zip(ENCODER.many(configs), configs, strict=True):
        assert row == pytest.approx(dense(ENCODER, config), abs=1e-6)
        assert row.sum() == pytest.approx(len(config), abs=1e-5)


BASES = ({"model": "a", "depth": 4}, {"model": "b", "depth": 1}, {"model": "c"})


@pytest.mark.parametrize("name", [*SPACE.by_name, "colour"])
def test_one_and_many_refuse_what_the_space_refuses(name: str) -> None:
    for base, value in product(BASES, ODD):
        values: dict[str, Any] = {**SPACE.complete(base), name: value}
        if value is ABSENT:
            del values[name]
        config = unchecked_config(values)
        found = []
        for find in (partial(dense, ENCODER), lambda c: ENCODER.many([SPACE.default(), c, SPACE.default()])[1]):
            try:
                found.append(find(config))
            except InvalidConfig:
                found.append(None)
        one, many = found
        assert (one is None) == (many is None), values
        try:
            known = SPACE.config(values)
        except (InvalidConfig, UnknownName):
            assert one is None, values
            continue
        if one is None:  # it is legal in another type, as a whole number for a float
            assert any(type(known[name]) is not type(value) for name, value in values.items()), values
        else:
            assert one == pytest.approx(dense(ENCODER, known), abs=1e-6)
            assert many == pytest.approx(one, abs=1e-6)


def test_the_inputs_say_what_is_inactive() -> None:
    """Columns: model 3; depth inactive, 9 knots, place; drop the same; skip inactive, 3 choices, place; and so on."""
    task = np.array([0])
    (c,) = ENCODER.inputs([SPACE.complete({"model": "c", "trees": 500})], task)
    assert c[:3].tolist() == [0.0, 0.0, 1.0]
    assert c[3:30].tolist() == [1.0, *[0.0] * 10, 1.0, *[0.0] * 10, 1.0, *[0.0] * 4]
    (a,) = ENCODER.inputs([SPACE.complete({"model": "a", "depth": 4, "drop": 0.125, "skip": 1.0})], task)
    assert a[3] == 0.0  # though the weights of two knots are no exact halves of one
    assert a[4:13] @ np.arange(9) == pytest.approx(7.0)  # an integer is in the middle of its cell: 3.5 of 4
    assert a[13] == pytest.approx(0.75)
    assert a[14:25] == pytest.approx([0.0, *np.eye(9)[2], -0.5])
    assert a[25:30].tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize("kept", [("model", "name"), ("rate",)])
def test_spaces_of_choices_alone_or_numbers_alone(kept: tuple[str, ...]) -> None:
    plain = (Hyperparameter("name", "categorical", "m7", choices=MANY), SPACE["model"], SPACE["rate"])
    space = SearchSpace("plain", tuple(hp for hp in plain if hp.name in kept))
    encoder, rng = encoder_of(space), np.random.default_rng(0)
    configs = [space.sample(rng) for _ in range(20)]
    assert encoder.many(configs) == pytest.approx(np.array([dense(encoder, config) for config in configs]), abs=1e-6)
    with pytest.raises(InvalidConfig, match="not one of the search space"):
        encoder.many([*configs, SPACE.default()])


def test_room_is_reused_without_a_trace() -> None:
    rng = np.random.default_rng(0)
    room = np.full(5000 + 4 * ENCODER.first_task, 7.0, np.float32)
    for n in (4, 2, 3):
        configs = [SPACE.sample(rng) for _ in range(n)]
        assert np.array_equal(ENCODER.many(configs, room), ENCODER.many(configs))
    assert (room[4 * ENCODER.first_task :] == 7.0).all()
