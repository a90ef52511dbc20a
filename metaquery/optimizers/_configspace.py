"""A SearchSpace as a ConfigSpace, and its configurations back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from metaquery.space import Condition, Config, Hyperparameter, SearchSpace, Value

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace


def to_configspace(space: SearchSpace, seed: int) -> ConfigurationSpace:
    """The conditional ConfigSpace of what can vary in `space`.

    Hyperparameters with one possible value are left out, those that can never be active too. Choices stand as
    their positions, so that values of any type survive the way there and back.
    """
    from ConfigSpace import ConfigurationSpace, InCondition

    target = ConfigurationSpace(name=space.name, seed=seed)
    conditions = {
        name: condition for name, condition in _effective_conditions(space).items() if len(space[name].choices) != 1
    }
    target.add([_axis(space[name]) for name in conditions])
    for name, condition in conditions.items():
        if condition is not None:
            parent = space[condition.parent]
            values = [parent.choices.index(value) if parent.choices else value for value in condition.values]
            target.add(InCondition(target[name], target[parent.name], values))
    return target


def from_configspace(space: SearchSpace, configuration: Mapping[str, Any]) -> Config:
    """The Config that `configuration` of `to_configspace(space)` stands for, with what was left out put back."""
    return space.complete({name: _value(space[name], value) for name, value in configuration.items()})


def _effective_conditions(space: SearchSpace) -> dict[str, Condition | None]:
    """The condition of every hyperparameter that can be active, with parents of one value resolved."""
    effective: dict[str, Condition | None] = {}
    for hp in space.hyperparameters:
        condition = hp.condition
        if condition is not None:
            if condition.parent not in effective:
                continue
            only = space[condition.parent].choices
            if len(only) == 1:
                if only[0] not in condition.values:
                    continue
                condition = effective[condition.parent]
        effective[hp.name] = condition
    return effective


def _axis(hp: Hyperparameter) -> Any:
    from ConfigSpace import (
        CategoricalHyperparameter,
        OrdinalHyperparameter,
        UniformFloatHyperparameter,
        UniformIntegerHyperparameter,
    )

    if hp.choices:
        positions = list(range(len(hp.choices)))
        default = hp.choices.index(hp.default)
        if hp.kind == "ordinal":
            return OrdinalHyperparameter(hp.name, positions, default_value=default)
        return CategoricalHyperparameter(hp.name, positions, default_value=default)
    if hp.kind == "integer":
        low, high, default = int(hp.low), int(hp.high), int(hp.default)
        return UniformIntegerHyperparameter(hp.name, low, high, log=hp.log, default_value=default)
    return UniformFloatHyperparameter(hp.name, hp.low, hp.high, log=hp.log, default_value=float(hp.default))


def _value(hp: Hyperparameter, value: Any) -> Value:
    if hp.choices:
        return hp.choices[int(value)]
    if hp.kind == "integer":
        return int(value)
    return min(max(float(value), hp.low), hp.high)  # ConfigSpace rounds, which may step over a bound
