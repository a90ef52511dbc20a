"""SearchSpace to ConfigSpace and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

from metaquery.errors import InvalidInput
from metaquery.space import Condition, Config, Hyperparameter, SearchSpace, Value

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace


def to_configspace(space: SearchSpace, seed: int | None = None) -> ConfigurationSpace:
    """`space` as a ConfigSpace, whose own values, defaults, log axes and conditions are those of `space`.

    Grid values, descriptions and the order travel in `meta`, so that `from_configspace` gives an equal space back.
    """
    from ConfigSpace import ConfigurationSpace, InCondition

    target = ConfigurationSpace(name=space.name, seed=seed)
    target.add([_axis(hp, position) for position, hp in enumerate(space.hyperparameters)])
    for hp in space.hyperparameters:
        if hp.condition is not None:
            target.add(InCondition(target[hp.name], target[hp.condition.parent], list(hp.condition.values)))
    return target


def from_configspace(source: ConfigurationSpace) -> SearchSpace:
    """A ConfigSpace as a SearchSpace; raises InvalidInput for what that cannot say.

    That is: other distributions than uniform ones, weights, forbidden clauses, more than one parent, and conditions
    other than equal to one value or in several.
    """
    if source.forbidden_clauses:
        raise InvalidInput("forbidden clauses have no place in a SearchSpace: take them out of the ConfigSpace")
    order = sorted(source, key=lambda name: (source[name].meta or {}).get("position", 0))
    return SearchSpace(source.name or "configspace", tuple(_hyperparameter(source, name) for name in order))


def to_config(space: SearchSpace, configuration: Mapping[str, Any]) -> Config:
    """The Config of a Configuration of `to_configspace(space)`; raises InvalidConfig where it is none."""
    return space.config({name: _plain(value) for name, value in configuration.items()})


def _axis(hp: Hyperparameter, position: int) -> Any:
    from ConfigSpace import (
        CategoricalHyperparameter,
        OrdinalHyperparameter,
        UniformFloatHyperparameter,
        UniformIntegerHyperparameter,
    )

    meta: dict[Hashable, Any] = {"grid": list(hp.grid), "description": hp.description, "position": position}
    if hp.choices:
        kind = OrdinalHyperparameter if hp.kind == "ordinal" else CategoricalHyperparameter
        return kind(hp.name, list(hp.choices), default_value=hp.default, meta=meta)
    if hp.kind == "integer":
        low, high, default = int(hp.low), int(hp.high), int(hp.default)
        return UniformIntegerHyperparameter(hp.name, low, high, log=hp.log, default_value=default, meta=meta)
    return UniformFloatHyperparameter(hp.name, hp.low, hp.high, log=hp.log, default_value=float(hp.default), meta=meta)


def _hyperparameter(source: ConfigurationSpace, name: str) -> Hyperparameter:
    from ConfigSpace import (
        CategoricalHyperparameter,
        Constant,
        OrdinalHyperparameter,
        UniformFloatHyperparameter,
        UniformIntegerHyperparameter,
    )

    hp = source[name]
    meta = hp.meta or {}
    common = {
        "name": name,
        "default": _plain(hp.default_value),
        "grid": tuple(meta.get("grid", ())),
        "description": meta.get("description", ""),
        "condition": _condition(source, name),
    }
    if isinstance(hp, Constant):
        return Hyperparameter(kind="categorical", choices=(_plain(hp.value),), **common)
    if isinstance(hp, CategoricalHyperparameter) and hp.weights is None:
        return Hyperparameter(kind="categorical", choices=tuple(map(_plain, hp.choices)), **common)
    if isinstance(hp, OrdinalHyperparameter):
        return Hyperparameter(kind="ordinal", choices=tuple(map(_plain, hp.sequence)), **common)
    if isinstance(hp, UniformIntegerHyperparameter):
        return Hyperparameter(kind="integer", low=float(hp.lower), high=float(hp.upper), log=hp.log, **common)
    if isinstance(hp, UniformFloatHyperparameter):
        return Hyperparameter(kind="float", low=float(hp.lower), high=float(hp.upper), log=hp.log, **common)
    raise InvalidInput(
        f"{name} is a {type(hp).__name__}{' with weights' if isinstance(hp, CategoricalHyperparameter) else ''}: "
        "expected a constant, a choice without weights, an ordinal, or a uniform number"
    )


def _condition(source: ConfigurationSpace, name: str) -> Condition | None:
    from ConfigSpace import EqualsCondition, InCondition

    conditions = source.parent_conditions_of[name]
    if not conditions:
        return None
    (first, *others) = conditions
    if others or not isinstance(first, EqualsCondition | InCondition):
        raise InvalidInput(
            f"{name} has a condition that a SearchSpace cannot say: expected one parent that is equal to a value or in "
            "several"
        )
    values = [first.value] if isinstance(first, EqualsCondition) else first.values
    return Condition(first.parent.name, tuple(map(_plain, values)))


def _plain(value: Any) -> Value:
    """`value` as Python's own type: ConfigSpace hands out NumPy's."""
    plain: Value = value.item() if hasattr(value, "item") else value
    return plain
