"""What may stand together: the rules by which two corpora become one release, or are opened as one.

Rows of the same key must be the same rows. What was measured again may differ: the seconds of a meta-feature. So may
the design that first asked for a config.

Two search spaces go together where every hyperparameter that both have is of one kind and scale. The merged space has
the choices, grids and conditions of both and the wider of the two ranges. Every config of both must be one of it; so a
hyperparameter of one space alone must be inactive in all configs of the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from metaquery.errors import InvalidConfig, InvalidInput
from metaquery.schema.tables import table
from metaquery.space import Condition, Config, Hyperparameter, SearchSpace, Value

if TYPE_CHECKING:
    import pyarrow as pa

_MAY_DIFFER = {"configs": ("design",), "metafeatures": ("seconds",)}
_FOLD = ("dataset", "fold")
_KEYS = {"splits": _FOLD, "metafeatures": _FOLD, "curves": ("trial_id",)}  # of other tables the primary key
_SHOWN = 3


def key_of(name: str) -> tuple[str, ...]:
    """The columns whose values belong to one corpus: all rows of the table `name` that have them stand together."""
    return _KEYS.get(name, table(name).primary_key)


def without(data: pa.Table, known: pa.Table, key: Sequence[str]) -> pa.Table:
    """The rows of `data` whose `key` no row of `known` has."""
    return _selected(data, key, _keys(known, key), inverted=True)


def new_rows(name: str, known: pa.Table, given: pa.Table, what: tuple[str, str]) -> pa.Table:
    """The rows of `given` whose key `known` does not have; `what` are the names of the two corpora.

    Raises InvalidInput, naming the first, where rows of one key differ.
    """
    key = key_of(name)
    shared = _keys(known, key) & _keys(given, key)
    if not shared:
        return given
    old, new = _selected(known, key, shared), _selected(given, key, shared)
    _refuse_differences(name, key, old, new, what)
    return _selected(given, key, shared, inverted=True)


def _keys(data: pa.Table, key: Sequence[str]) -> set[tuple[Any, ...]]:
    unique = data.select(key).group_by(list(key)).aggregate([])
    return set(zip(*(unique[column].to_pylist() for column in key), strict=True))


def _selected(
    data: pa.Table, key: Sequence[str], keys: Collection[tuple[Any, ...]], inverted: bool = False
) -> pa.Table:
    import pyarrow as pa

    rows = zip(*(data[column].to_pylist() for column in key), strict=True)
    return data.filter(pa.array([(row in keys) != inverted for row in rows], pa.bool_()))


def _refuse_differences(name: str, key: Sequence[str], old: pa.Table, new: pa.Table, what: tuple[str, str]) -> None:
    order = [(column, "ascending") for column in table(name).primary_key]
    ignored = _MAY_DIFFER.get(name, ())
    before = [_plain(row, ignored) for row in old.sort_by(order).to_pylist()]
    after = [_plain(row, ignored) for row in new.sort_by(order).to_pylist()]
    if before == after:
        return
    if len(before) == len(after):
        for one, other in zip(before, after, strict=True):
            for column in {**one, **other}:
                if one.get(column) != other.get(column):
                    named = "/".join(str(one[part]) for part in key)
                    raise InvalidInput(
                        f"{name}: {named} is not the same in {what[0]} and {what[1]}: {column} is {one.get(column)!r} "
                        f"in one and {other.get(column)!r} in the other; keep them apart"
                    )
    raise InvalidInput(
        f"{name}: {what[0]} and {what[1]} have other rows for {_shown(_keys(new, key))}; keep them apart"
    )


def _plain(row: Mapping[str, Any], ignored: Collection[str]) -> dict[str, Any]:
    """`row` without what may differ, and without nulls, as one space may lack a hyperparameter of the other."""
    return {column: value for column, value in row.items() if value is not None and column not in ignored}


def _shown(keys: Iterable[tuple[Any, ...]]) -> str:
    named = sorted("/".join(map(str, key)) for key in keys)
    return ", ".join(named[:_SHOWN]) + (f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else "")


def refuse_other_trials(known: pa.Table, given: pa.Table, what: tuple[str, str]) -> set[str]:
    """The trials that both have; InvalidInput, naming them, where their rows in `trials` or `curves` differ.

    `known` and `given` are rows of one of the two tables.
    """
    import pyarrow as pa

    shared = {key[0] for key in _keys(known, ("trial_id",)) & _keys(given, ("trial_id",))}
    if shared:
        keys = [(trial_id,) for trial_id in shared]
        name = "curves" if "epoch" in known.column_names else "trials"
        order = [(column, "ascending") for column in table(name).primary_key]
        same = given.select(known.column_names).cast(known.schema)
        old, new = (_selected(data, ("trial_id",), set(keys)).sort_by(order) for data in (known, same))
        if not old.equals(new):
            rows = pa.Table.to_pylist
            differing = {row["trial_id"] for row in _unlike(rows(old), rows(new))}
            raise InvalidInput(
                f"{what[0]} and {what[1]} have other {name} for the same trials: {_shown((i,) for i in differing)}; "
                f"keep one of the two"
            )
    return shared


def _unlike(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in old if row not in new] + [row for row in new if row not in old]


def merge_spaces(one: SearchSpace, other: SearchSpace) -> SearchSpace:
    """The space that has the configs of both; InvalidInput where a hyperparameter of both is not the same thing."""
    merged: dict[str, Hyperparameter] = {}
    for hp in (*one.hyperparameters, *other.hyperparameters):
        if hp.name not in merged:
            in_both = hp.name in one.by_name and hp.name in other.by_name
            merged[hp.name] = _merge(hp, other[hp.name], one, other) if in_both else hp
    always = {hp.name: set(hp.choices) for hp in merged.values() if hp.condition is None}
    return SearchSpace(
        one.name,
        tuple(
            replace(hp, condition=None)
            if hp.condition is not None and set(hp.condition.values) == always.get(hp.condition.parent)
            else hp
            for hp in merged.values()
        ),
    )


def _merge(a: Hyperparameter, b: Hyperparameter, one: SearchSpace, other: SearchSpace) -> Hyperparameter:
    if (a.kind, a.log) != (b.kind, b.log):
        raise InvalidInput(
            f"the search spaces do not go together: {a.name} is {a.kind} in one and {b.kind} in the other"
        )
    choices = tuple(dict.fromkeys((*a.choices, *b.choices)))
    grid = a.grid if a.grid == b.grid and a.default == b.default else (*a.grid_values, *b.grid_values)
    if a.kind != "categorical":
        choices, grid = _ascending(choices), _ascending(grid)
    return replace(
        a,
        choices=choices,
        low=min(a.low, b.low),
        high=max(a.high, b.high),
        grid=tuple(dict.fromkeys(grid)),
        condition=_merge_conditions(a, b, one, other),
        description=b.description,
    )


def _ascending(values: Iterable[Value]) -> tuple[Value, ...]:
    return tuple(sorted(values, key=float))


def _merge_conditions(a: Hyperparameter, b: Hyperparameter, one: SearchSpace, other: SearchSpace) -> Condition | None:
    """When the hyperparameter is active; without a condition that is for every value that a space's own parent has."""
    parents = {hp.condition.parent for hp in (a, b) if hp.condition is not None}
    if not parents:
        return None
    (parent, *more) = sorted(parents)
    if more or parent not in one.by_name or parent not in other.by_name:
        raise InvalidInput(f"the search spaces do not go together: {a.name} depends on {' or '.join(sorted(parents))}")
    sides = ((a, one), (b, other))
    values = [space[parent].choices if hp.condition is None else hp.condition.values for hp, space in sides]
    return Condition(parent, tuple(dict.fromkeys((*values[0], *values[1]))))


def check_configs(space: SearchSpace, configs: pa.Table, what: str) -> dict[str, Config]:
    """The rows of `configs` as configs of `space`, by id; InvalidInput where one of them, of `what`, is none of it."""
    found = {}
    for row in configs.to_pylist():
        values = {name: value for name, value in row.items() if value is not None and name in space.by_name}
        try:
            found[row["config_id"]] = space.config(values)
        except InvalidConfig as error:
            raise InvalidInput(
                f"the search spaces do not go together: config {row['config_id']} of {what}: {error}"
            ) from None
    return found
