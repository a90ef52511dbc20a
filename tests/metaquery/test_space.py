"""The conditional space: what is legal, its coordinates, its grid, its JSON form."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from factory import make_space
from hypothesis import given, settings
from hypothesis import strategies as st

from metaquery.errors import InvalidConfig, InvalidInput, UnknownName
from metaquery.space import Condition, Config, Hyperparameter, SearchSpace, content_id

SPACE = SearchSpace(
    "all kinds",
    (
        Hyperparameter("backbone", "categorical", "b", choices=("a", "b", "c"), grid=("a", "b")),
        Hyperparameter("freeze", "ordinal", 0.5, choices=(0.0, 0.5, 1.0), condition=Condition("backbone", ("b", "c"))),
        Hyperparameter("depth", "integer", 2, low=1, high=4, grid=(1, 4), condition=Condition("freeze", (0.5, 1.0))),
        Hyperparameter("rate", "float", 1e-3, low=1e-5, high=1e-1, log=True, grid=(1e-4, 1e-2)),
        Hyperparameter("width", "integer", 32, low=8, high=512, log=True),
        Hyperparameter("drop", "float", 0.0, low=0.0, high=0.5, grid=(0, 0.25), description="an integer 0 in the grid"),
    ),
)
points = st.lists(st.floats(0.0, 1.0), min_size=len(SPACE.hyperparameters), max_size=len(SPACE.hyperparameters))


@settings(deadline=None)
@given(points)
def test_any_point_is_a_config(point: list[float]) -> None:
    config = SPACE.from_unit(point)
    assert SPACE.config(config) == config  # legal and complete
    assert ("freeze" in config) == (config["backbone"] != "a")
    assert ("depth" in config) == (config.get("freeze") in (0.5, 1.0))


@settings(deadline=None)
@given(points)
def test_unit_coordinates_round_trip(point: list[float]) -> None:
    config = SPACE.from_unit(point)
    unit = SPACE.to_unit(config)
    assert [math.isnan(u) for u in unit] == [hp.name not in config for hp in SPACE.hyperparameters]
    assert all(math.isnan(u) or 0.0 <= u <= 1.0 for u in unit)
    back = SPACE.from_unit([0.5 if math.isnan(u) else u for u in unit])
    assert set(back) == set(config)
    for name, value in config.items():
        assert back[name] == (pytest.approx(value) if isinstance(value, float) else value)


@settings(deadline=None)
@given(points)
def test_order_of_keys_does_not_matter(point: list[float]) -> None:
    config = SPACE.from_unit(point)
    turned = SPACE.config(dict(reversed(list(config.items()))))
    assert turned == config
    assert hash(turned) == hash(config)
    assert turned.config_id == config.config_id == content_id(dict(config))


def test_every_integer_is_as_likely() -> None:
    depth = SPACE["depth"]
    drawn = [depth.from_unit(u) for u in (np.arange(4000) + 0.5) / 4000]
    assert [drawn.count(value) for value in (1, 2, 3, 4)] == [1000] * 4


def test_logarithmic_axis() -> None:
    assert SPACE["rate"].from_unit(0.5) == pytest.approx(1e-3)
    assert SPACE["rate"].to_unit(1e-4) == pytest.approx(0.25)
    assert SPACE["rate"].from_unit(1.0) == 1e-1
    assert (SPACE["width"].from_unit(0.0), SPACE["width"].from_unit(1.0)) == (8, 512)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("backbone", "d", "backbone must be one of a, b, c, got 'd'"),
        ("freeze", 0.4, "freeze must be one of 0.0, 0.5, 1.0, got 0.4"),
        ("depth", 5, r"depth must be an integer in \[1, 4\], got 5"),
        ("depth", 1.5, "got 1.5"),
        ("depth", True, "got True"),
        ("depth", "2", "got '2'"),
        ("rate", 0.0, r"rate must be a number in \[1e-05, 0.1\], got 0.0"),
        ("rate", math.nan, "got nan"),
        ("rate", math.inf, "got inf"),
        ("rate", None, "got None"),
    ],
)
def test_illegal_values(name: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        SPACE.config({**SPACE.default(), name: value})


def test_values_take_the_type_of_the_axis() -> None:
    config = SPACE.config({**SPACE.default(), "freeze": 1, "depth": 3.0, "drop": 0, "width": np.float64(16.0)})
    assert [(value, type(value)) for value in (config["freeze"], config["depth"], config["drop"], config["width"])] == [
        (1.0, float),
        (3, int),
        (0.0, float),
        (16, int),
    ]


def test_activity() -> None:
    default = dict(SPACE.default())
    assert default == {"backbone": "b", "freeze": 0.5, "depth": 2, "rate": 1e-3, "width": 32, "drop": 0.0}
    with pytest.raises(InvalidConfig, match="freeze is only active where backbone is b or c: leave it out"):
        SPACE.config({**default, "backbone": "a"})
    with pytest.raises(InvalidConfig, match="the config lacks depth: expected an integer"):
        SPACE.config({name: value for name, value in default.items() if name != "depth"})
    with pytest.raises(UnknownName, match="unknown hyperparameter 'raet': did you mean rate"):
        SPACE.config({**default, "raet": 1})
    assert dict(SPACE.complete({"backbone": "a", "freeze": 0.5, "rate": 1e-2})) == {
        "backbone": "a",
        "rate": 1e-2,
        "width": 32,
        "drop": 0.0,
    }


def test_configs_are_values() -> None:
    config = SPACE.default()
    assert config != dict(config)
    assert config in {SPACE.default()}
    assert repr(Config({"b": 1, "a": "x"})) == "Config(a='x', b=1)"
    assert Config({"a": 1, "b": 2}).config_id == Config({"b": 2, "a": 1}).config_id != Config({"a": 1}).config_id
    with pytest.raises(TypeError):
        config["rate"] = 1.0  # type: ignore[index]


@pytest.mark.parametrize("space", [SPACE, make_space()], ids=lambda space: space.name)
def test_the_core_is_the_grid(space: SearchSpace) -> None:
    grid, core = space.grid(), space.core()
    assert len(set(grid)) == len(grid)
    assert core.grid() == grid
    assert all(core.config(config) == space.config(config) == config for config in grid)
    rng = np.random.default_rng(0)
    drawn = {core.sample(rng) for _ in range(60 * len(grid))}
    assert drawn == set(grid)
    assert core.core().grid() == grid


def test_size_of_the_grid() -> None:
    # a: 2 rates x 2 drops; b: freeze stays at its default 0.5, so depth has 2 values
    assert len(SPACE.grid()) == 4 + 2 * 4
    assert len(make_space().grid()) == 6 * 3 * (2 + 1)


def test_restriction() -> None:
    only_a = SPACE.restrict("backbone", ["a"])
    assert "freeze" not in only_a.by_name  # nothing left that could make it active
    assert "depth" not in only_a.by_name
    assert only_a.default()["backbone"] == "a"
    only_c = SPACE.restrict("backbone", ["c"])
    assert only_c["freeze"].condition == Condition("backbone", ("c",))
    assert only_c["backbone"].grid == ()
    with pytest.raises(InvalidConfig, match="backbone must be one of"):
        SPACE.restrict("backbone", ["z"])
    with pytest.raises(UnknownName):
        SPACE.restrict("back", ["a"])


@pytest.mark.parametrize("space", [SPACE, SPACE.core(), make_space()], ids=["full", "core", "factory"])
def test_json_round_trip(space: SearchSpace) -> None:
    document = json.loads(json.dumps(space.to_json()))
    again = SearchSpace.from_json(document)
    assert again == space
    assert again.to_json() == document


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"hyperparameters": []}, "hyperparameters"),
        ({"extra": 1}, "extra"),
        ({"hyperparameters": [{"name": "x", "kind": "float", "default": 1}]}, "'low' is a required property"),
        ({"hyperparameters": [{"name": "x", "kind": "ordinal", "default": 1}]}, "'choices' is a required property"),
    ],
)
def test_json_that_is_no_space(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        SearchSpace.from_json({**SPACE.to_json(), **change})


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "categorical", "default": "a"},
        {"kind": "ordinal", "default": 1, "choices": (1, 1)},
        {"kind": "float", "default": 1.0, "low": 1.0, "high": 1.0},
        {"kind": "float", "default": 0.5, "low": 0.0, "high": 1.0, "log": True},
        {"kind": "float", "default": 2.0, "low": 0.0, "high": 1.0},
        {"kind": "ordinal", "default": 1, "choices": (1, 2), "grid": (3,)},
    ],
)
def test_hyperparameters_without_a_domain(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Hyperparameter("x", **fields)


def test_parents_stand_first_and_names_are_unique() -> None:
    x = Hyperparameter("x", "ordinal", 1, choices=(1, 2))
    child = Hyperparameter("y", "ordinal", 1, choices=(1, 2), condition=Condition("x", (2,)))
    with pytest.raises(InvalidInput, match="'y' depends on 'x', which must stand before it"):
        SearchSpace("s", (child, x))
    with pytest.raises(InvalidInput, match="twice"):
        SearchSpace("s", (x, x))
    odd = Hyperparameter("y", "ordinal", 1, choices=(1, 2), condition=Condition("x", (3,)))
    with pytest.raises(InvalidConfig, match="x must be one of 1, 2, got 3"):
        SearchSpace("s", (x, odd))


def test_wrong_number_of_coordinates() -> None:
    with pytest.raises(ValueError, match="shorter"):
        SPACE.from_unit([0.5])
