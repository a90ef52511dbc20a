"""The conditional search space, its configurations, and their one JSON form (`schemas/search_space.schema.json`)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from metaquery.errors import InvalidConfig, InvalidInput, UnknownName

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Value = str | int | float
Kind = Literal["categorical", "ordinal", "integer", "float"]


def content_id(content: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of `content` as canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Config(Mapping[str, Value]):
    """One point of a search space: an immutable mapping of the active hyperparameters, named by its content.

    Equal mappings have equal `config_id`s. Made by `SearchSpace.config`, which checks it.
    """

    __slots__ = ("_hash", "_values", "config_id")

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = dict(sorted(values.items()))
        self.config_id = content_id(self._values)
        self._hash = hash(self.config_id)

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The value of `name`, or `default` where it is inactive; Mapping's own is many times slower."""
        return self._values.get(name, default)

    def items(self) -> ItemsView[str, Value]:
        """All names and values; like `get`, for speed."""
        return self._values.items()

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and other.config_id == self.config_id

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"


def values_of(configs: Iterable[Config]) -> list[dict[str, Value]]:
    """The mappings that `configs` are of, to be read only: where each call of a Config's own methods would be felt."""
    return [config._values for config in configs]


@dataclass(frozen=True, slots=True)
class Condition:
    """A hyperparameter is active only where `parent` is active and has one of `values`."""

    parent: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """One dimension of a search space.

    `categorical` and `ordinal` have `choices` (ordered by size for `ordinal`); `integer` and `float` have `low`
    and `high`, both included, on a logarithmic axis where `log`. `grid` are the values of the core grid; without
    it the grid holds the default alone.
    """

    name: str
    kind: Kind
    default: Value
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    grid: tuple[Value, ...] = ()
    condition: Condition | None = None
    description: str = ""

    def __post_init__(self) -> None:
        if self.kind in ("categorical", "ordinal"):
            sound = len(self.choices) > 0 and len(set(self.choices)) == len(self.choices)
        else:
            sound = self.low < self.high and (self.low > 0 or not self.log)
        if not sound:
            raise InvalidInput(f"hyperparameter {self.name!r} has no usable {self.kind} domain: {self.domain}")
        for value in (self.default, *self.grid):
            self.check(value)

    @property
    def domain(self) -> str:
        """The legal values, in words."""
        if self.kind in ("categorical", "ordinal"):
            return "one of " + ", ".join(map(str, self.choices))
        return f"{'an integer' if self.kind == 'integer' else 'a number'} in [{self.low:g}, {self.high:g}]"

    @property
    def grid_values(self) -> tuple[Value, ...]:
        """The values of the core grid, each in this hyperparameter's own type."""
        return tuple(self.check(value) for value in self.grid or (self.default,))

    def check(self, value: Value) -> Value:
        """`value` in this hyperparameter's own type, or InvalidConfig when it is outside the domain."""
        if self.kind in ("categorical", "ordinal"):
            for choice in self.choices:
                if choice == value and isinstance(choice, str) == isinstance(value, str):
                    return choice
        elif isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high:
            if self.kind == "float":
                return float(value)
            if float(value).is_integer():
                return int(value)
        raise InvalidConfig(f"{self.name} must be {self.domain}, got {value!r}")

    def allows(self, value: Value) -> bool:
        """Whether `value` is legal."""
        try:
            self.check(value)
        except InvalidConfig:
            return False
        return True

    def to_unit(self, value: Value) -> float:
        """Position of a legal value in [0, 1]: the centre of its cell for choices and integers, else linear or log."""
        if self.kind in ("categorical", "ordinal"):
            return (self.choices.index(value) + 0.5) / len(self.choices)
        low, high, x = self._axis(float(value))
        return (x - low) / (high - low)

    def from_unit(self, u: float) -> Value:
        """The legal value at position `u` in [0, 1]; the inverse of `to_unit`."""
        if self.kind in ("categorical", "ordinal"):
            return self.choices[min(int(u * len(self.choices)), len(self.choices) - 1)]
        low, high, _ = self._axis(1.0)
        x = low + u * (high - low)
        value = math.exp(x) if self.log else x
        if self.kind == "integer":
            return int(min(max(round(value), self.low), self.high))
        return float(min(max(value, self.low), self.high))

    def _axis(self, value: float) -> tuple[float, float, float]:
        # An integer owns the cell of width one around it, so that the first and the last are as likely as the rest.
        margin = 0.5 if self.kind == "integer" else 0.0
        bounds = (self.low - margin, self.high + margin, value)
        return tuple(math.log(b) for b in bounds) if self.log else bounds  # type: ignore[return-value]


@dataclass(frozen=True)
class SearchSpace:
    """A conditional space; every parent stands before its children in `hyperparameters`."""

    name: str
    hyperparameters: tuple[Hyperparameter, ...]

    def __post_init__(self) -> None:
        seen: dict[str, Hyperparameter] = {}
        for hp in self.hyperparameters:
            if hp.name in seen:
                raise InvalidInput(f"search space {self.name!r} names hyperparameter {hp.name!r} twice")
            if hp.condition is not None:
                parent = seen.get(hp.condition.parent)
                if parent is None:
                    raise InvalidInput(f"{hp.name!r} depends on {hp.condition.parent!r}, which must stand before it")
                for value in hp.condition.values:
                    parent.check(value)
            seen[hp.name] = hp

    @cached_property
    def by_name(self) -> dict[str, Hyperparameter]:
        """The hyperparameters by name."""
        return {hp.name: hp for hp in self.hyperparameters}

    def __getitem__(self, name: str) -> Hyperparameter:
        try:
            return self.by_name[name]
        except KeyError:
            raise UnknownName.of("hyperparameter", name, self.by_name) from None

    def is_active(self, hp: Hyperparameter, values: Mapping[str, Value]) -> bool:
        """Whether `hp` is active given the values of the hyperparameters before it."""
        return hp.condition is None or values.get(hp.condition.parent) in hp.condition.values

    def config(self, values: Mapping[str, Value]) -> Config:
        """Check `values` and make the Config: every active hyperparameter given, legal, and nothing else."""
        for name in values:
            self[name]
        active: dict[str, Value] = {}
        for hp in self.hyperparameters:
            if self.is_active(hp, active):
                if hp.name not in values:
                    raise InvalidConfig(f"the config lacks {hp.name}: expected {hp.domain}")
                active[hp.name] = hp.check(values[hp.name])
            elif hp.name in values:
                assert hp.condition is not None
                needed = " or ".join(map(str, hp.condition.values)) or "a value that this space does not have"
                raise InvalidConfig(f"{hp.name} is only active where {hp.condition.parent} is {needed}: leave it out")
        return Config(active)

    def complete(self, values: Mapping[str, Value]) -> Config:
        """Like `config`, but missing active hyperparameters take their defaults and inactive ones are dropped."""
        for name in values:
            self[name]
        active: dict[str, Value] = {}
        for hp in self.hyperparameters:
            if self.is_active(hp, active):
                active[hp.name] = hp.check(values.get(hp.name, hp.default))
        return Config(active)

    def default(self) -> Config:
        """The config of all defaults."""
        return self.complete({})

    def from_unit(self, point: Sequence[float] | NDArray[np.float64]) -> Config:
        """The config at `point`, shape (n_hyperparameters,), each coordinate in [0, 1]; inactive ones are ignored."""
        return self.complete(
            {hp.name: hp.from_unit(float(u)) for hp, u in zip(self.hyperparameters, point, strict=True)}
        )

    def to_unit(self, config: Mapping[str, Value]) -> list[float]:
        """The coordinates of `config` in [0, 1], one per hyperparameter; NaN where inactive."""
        return [hp.to_unit(config[hp.name]) if hp.name in config else math.nan for hp in self.hyperparameters]

    def sample(self, rng: np.random.Generator) -> Config:
        """A config drawn uniformly along every axis."""
        return self.from_unit(rng.random(len(self.hyperparameters)))

    def grid(self) -> list[Config]:
        """The complete factorial over the grid values, each distinct config once, in a fixed order."""
        points: list[dict[str, Value]] = [{}]
        for hp in self.hyperparameters:
            values = hp.grid_values
            points = [
                extended
                for point in points
                for extended in ([{**point, hp.name: v} for v in values] if self.is_active(hp, point) else [point])
            ]
        return list(dict.fromkeys(map(Config, points)))

    def with_grid(self, values: Mapping[str, Sequence[Value]]) -> SearchSpace:
        """The space whose core grid has `values` for the hyperparameters named there, and what it had for the others.

        Raises UnknownName for another hyperparameter, InvalidConfig for a value outside its domain.
        """
        changed = {name: tuple(dict.fromkeys(map(self[name].check, given))) for name, given in values.items()}
        return self._with_hyperparameters(
            [replace(hp, grid=changed[hp.name]) if hp.name in changed else hp for hp in self.hyperparameters]
        )

    def core(self) -> SearchSpace:
        """The space whose configs are exactly those of `grid`: every axis reduced to its grid values."""
        reduced = []
        for hp in self.hyperparameters:
            kind: Kind = "categorical" if hp.kind == "categorical" else "ordinal"
            values = hp.grid_values
            default = hp.default if hp.default in values else values[len(values) // 2]
            reduced.append(
                Hyperparameter(
                    hp.name,
                    kind,
                    default,
                    choices=values,
                    grid=values,
                    condition=hp.condition,
                    description=hp.description,
                )
            )
        return self._with_hyperparameters(reduced)

    def restrict(self, name: str, values: Sequence[Value]) -> SearchSpace:
        """The space in which the categorical or ordinal `name` keeps only `values`."""
        target = self[name]
        kept = tuple(target.check(value) for value in values)
        narrowed = replace(
            target,
            choices=kept,
            default=target.default if target.default in kept else kept[0],
            grid=tuple(v for v in target.grid if v in kept),
        )
        return self._with_hyperparameters([narrowed if hp.name == name else hp for hp in self.hyperparameters])

    def _with_hyperparameters(self, hyperparameters: Sequence[Hyperparameter]) -> SearchSpace:
        """This space with changed axes: conditions keep the parent values that are left; a child without any goes."""
        kept: dict[str, Hyperparameter] = {}
        for hp in hyperparameters:
            if hp.condition is None:
                kept[hp.name] = hp
                continue
            parent = kept.get(hp.condition.parent)
            values = tuple(v for v in hp.condition.values if parent is not None and parent.allows(v))
            if values:
                kept[hp.name] = replace(hp, condition=Condition(hp.condition.parent, values))
        return SearchSpace(self.name, tuple(kept.values()))

    def to_json(self) -> dict[str, Any]:
        """The JSON form; `from_json` reads it back."""
        return {
            "schema_version": 1,
            "name": self.name,
            "hyperparameters": [_hp_to_json(h) for h in self.hyperparameters],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> SearchSpace:
        """Read the JSON form; raises InvalidInput where it breaks `search_space.schema.json`."""
        from metaquery.schema import check_document

        check_document("search_space", document, what="search space")
        return cls(document["name"], tuple(_hp_from_json(item) for item in document["hyperparameters"]))


def _hp_to_json(hp: Hyperparameter) -> dict[str, Any]:
    item: dict[str, Any] = {"name": hp.name, "kind": hp.kind, "default": hp.default}
    if hp.kind in ("categorical", "ordinal"):
        item["choices"] = list(hp.choices)
    else:
        item |= {"low": hp.low, "high": hp.high, "log": hp.log}
    if hp.grid:
        item["grid"] = list(hp.grid)
    if hp.condition is not None:
        item["condition"] = {"parent": hp.condition.parent, "values": list(hp.condition.values)}
    if hp.description:
        item["description"] = hp.description
    return item


def _hp_from_json(item: Mapping[str, Any]) -> Hyperparameter:
    fields = dict(item)
    for name in ("choices", "grid"):
        fields[name] = tuple(fields.get(name, ()))
    if "condition" in fields:
        fields["condition"] = Condition(fields["condition"]["parent"], tuple(fields["condition"]["values"]))
    return Hyperparameter(**fields)


class Distances:
    """Gower's distance (Biometrics 1971) from any config of a space to each of `configs`.

    Per hyperparameter that is 0 or 1 for categories, the distance along the unit axis for numbers and ordered
    choices, 1 where only one of the two is active, and 0 where neither is; summed over hyperparameters.
    """

    def __init__(self, space: SearchSpace, configs: Sequence[Config]) -> None:
        import numpy as np

        self._space = space
        points = np.array([space.to_unit(config) for config in configs])  # (n_configs, n_hyperparameters)
        self._inactive = np.isnan(points)
        self._points = np.nan_to_num(points)
        self._categorical = np.array([hp.kind == "categorical" for hp in space.hyperparameters])

    def __call__(self, config: Config) -> NDArray[np.float64]:
        """The distances of `config`, shape (n_configs,)."""
        import numpy as np

        point = np.array(self._space.to_unit(config))
        inactive = np.isnan(point)
        gaps = np.abs(self._points - np.nan_to_num(point))
        gaps[:, self._categorical] = gaps[:, self._categorical] > 0
        gaps[self._inactive != inactive] = 1.0
        total: NDArray[np.float64] = gaps.sum(axis=1)
        return total
