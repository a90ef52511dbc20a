"""A SearchSpace to ConfigSpace and back."""

from __future__ import annotations

from typing import Any

import ConfigSpace as CS
import pytest

import metaquery as mq
from metaquery.errors import InvalidConfig, InvalidInput
from metaquery.interop.configspace import from_configspace, to_config, to_configspace
from metaquery.space import Condition, Hyperparameter, SearchSpace
from metaquery.testing import TOY_SPACE

MIXED = SearchSpace(
    "mixed",
    (
        Hyperparameter("z", "categorical", 0, choices=(0, 1, 2), grid=(0, 2), description="numbers as names"),
        Hyperparameter("a", "float", 0.5, low=0.1, high=1.0, log=True, condition=Condition("z", (1, 2))),
        Hyperparameter("k", "integer", 3, low=1, high=9, log=True, grid=(1, 9), condition=Condition("z", (0,))),
        Hyperparameter("o", "ordinal", "m", choices=("s", "m", "l")),
    ),
)


@pytest.mark.parametrize("space", [TOY_SPACE, TOY_SPACE.core(), MIXED, mq.open("mini").space], ids=lambda s: s.name)
def test_there_and_back(space: SearchSpace) -> None:
    target = to_configspace(space, seed=1)
    assert from_configspace(target) == space
    assert to_config(space, target.get_default_configuration()) == space.default()
    for configuration in target.sample_configuration(100):
        config = to_config(space, configuration)
        assert dict(config) == pytest.approx(dict(configuration))
        assert {type(value) for value in config.values()} <= {str, int, float}


def test_another_ones_space() -> None:
    source = CS.ConfigurationSpace(name="theirs")
    source.add(
        CS.Constant("fixed", "x"),
        CS.CategoricalHyperparameter("z_parent", ["on", "off"], default_value="on"),
        CS.UniformFloatHyperparameter("a_child", 1e-3, 1.0, log=True, default_value=0.1),
        CS.UniformIntegerHyperparameter("b_child", 1, 5, default_value=2),
    )
    source.add(CS.EqualsCondition(source["a_child"], source["z_parent"], "on"))
    source.add(CS.InCondition(source["b_child"], source["z_parent"], ["on", "off"]))
    space = from_configspace(source)
    assert space.name == "theirs"
    assert space["fixed"].choices == ("x",)
    assert space["a_child"] == Hyperparameter(
        "a_child", "float", 0.1, low=1e-3, high=1.0, log=True, condition=Condition("z_parent", ("on",))
    )
    assert space["b_child"].condition == Condition("z_parent", ("on", "off"))
    with pytest.raises(InvalidConfig, match="only active where z_parent is on"):
        to_config(space, {"fixed": "x", "z_parent": "off", "a_child": 0.5, "b_child": 1})


def with_(*items: Any, conditions: Any = ()) -> CS.ConfigurationSpace:
    source = CS.ConfigurationSpace()
    source.add(CS.CategoricalHyperparameter("p", ["a", "b"]), CS.UniformFloatHyperparameter("q", 0, 1), *items)
    for make in conditions:
        source.add(make(source))
    return source


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (with_(CS.NormalFloatHyperparameter("n", 0, 1, lower=-3, upper=3)), "n is a NormalFloatHyperparameter"),
        (with_(CS.CategoricalHyperparameter("w", ["a", "b"], weights=[1, 3])), "with weights"),
        (
            with_(conditions=[lambda s: CS.ForbiddenEqualsClause(s["p"], "b")]),
            "forbidden clauses have no place in a SearchSpace",
        ),
        (
            with_(
                CS.UniformIntegerHyperparameter("i", 1, 9),
                conditions=[lambda s: CS.GreaterThanCondition(s["i"], s["q"], 0.5)],
            ),
            "i has a condition that a SearchSpace cannot say",
        ),
        (
            with_(
                CS.UniformIntegerHyperparameter("i", 1, 9),
                CS.CategoricalHyperparameter("r", ["a", "b"]),
                conditions=[
                    lambda s: CS.AndConjunction(
                        CS.EqualsCondition(s["i"], s["p"], "a"), CS.EqualsCondition(s["i"], s["r"], "b")
                    )
                ],
            ),
            "i has a condition that a SearchSpace cannot say",
        ),
    ],
    ids=["distribution", "weights", "forbidden", "greater", "two parents"],
)
def test_what_cannot_be_said_is_refused(source: CS.ConfigurationSpace, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        from_configspace(source)
