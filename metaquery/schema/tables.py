"""Tables of the corpus: columns, Arrow schemas and checks, derived from `schemas/tables/*.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from metaquery.errors import InvalidData, UnknownName
from metaquery.schema.documents import schema_root
from metaquery.space import SearchSpace

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_NAMES = ("datasets", "splits", "metafeatures", "backbones", "configs", "trials", "curves")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: name, Arrow type in words, meaning, unit, whether null may occur, its values where they are few.

    `imported_nullable` says that null may occur in an imported corpus, whose source need not have what the builder has.
    """

    name: str
    type: str
    description: str
    unit: str | None = None
    nullable: bool = False
    values: tuple[Any, ...] = ()
    imported_nullable: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the corpus."""

    name: str
    description: str
    primary_key: tuple[str, ...]
    columns: tuple[Column, ...]
    foreign_keys: tuple[tuple[tuple[str, ...], str], ...] = ()

    def arrow_schema(self, *, imported: bool = False) -> pa.Schema:
        """The Arrow schema of the table's fixed columns, of an imported corpus or of one that the builder sealed."""
        import pyarrow as pa

        nullable = {c.name: c.nullable or (imported and c.imported_nullable) for c in self.columns}
        return pa.schema([pa.field(c.name, arrow_type(c.type), nullable=nullable[c.name]) for c in self.columns])


@cache
def table(name: str) -> Table:
    """The table called `name`, without the hyperparameter columns of `configs` (see `configs_schema`)."""
    if name not in TABLE_NAMES:
        raise UnknownName.of("table", name, TABLE_NAMES)
    spec = json.loads((schema_root() / "tables" / f"{name}.json").read_text())
    columns = tuple(Column(**{**c, "values": tuple(c.get("values", ()))}) for c in spec["columns"])
    foreign = tuple((tuple(key["columns"]), key["table"]) for key in spec.get("foreign_keys", []))
    return Table(spec["table"], spec["description"], tuple(spec["primary_key"]), columns, foreign)


def configs_schema(space: SearchSpace) -> pa.Schema:
    """The Arrow schema of `configs` for `space`: the fixed columns, then one nullable column per hyperparameter."""
    import pyarrow as pa

    types = {"integer": pa.int64(), "float": pa.float64()}
    fields = list(table("configs").arrow_schema())
    for hp in space.hyperparameters:
        if hp.kind in types:
            kind = types[hp.kind]
        elif all(isinstance(choice, int) for choice in hp.choices):
            kind = pa.int64()
        elif all(isinstance(choice, int | float) for choice in hp.choices):
            kind = pa.float64()
        else:
            kind = pa.string()
        fields.append(pa.field(hp.name, kind, nullable=True))
    return pa.schema(fields)


def schema_of(name: str, space: SearchSpace, *, imported: bool = False) -> pa.Schema:
    """The Arrow schema of the table `name` in a corpus over `space`, `imported` or sealed by the builder."""
    return configs_schema(space) if name == "configs" else table(name).arrow_schema(imported=imported)


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type called `name`, such as `int32` or `list<string>`."""
    import pyarrow as pa

    if name.startswith("list<"):
        return pa.list_(arrow_type(name[5:-1]))
    return pa.type_for_alias(name)


def from_rows(schema: pa.Schema, rows: Sequence[Mapping[str, Any]], *, what: str) -> pa.Table:
    """An Arrow table of `rows`, refused with InvalidData where a column is missing, unknown, of another type, or null.

    pyarrow itself neither notices an unknown key nor a null in a column that must not have one.
    """
    import pyarrow as pa

    for row in rows[:1]:
        if set(row) != set(schema.names):
            wrong = sorted(set(row) ^ set(schema.names))
            raise InvalidData(f"{what}: columns {wrong} are missing or not in the schema")
    try:
        result = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InvalidData(f"{what}: {error}") from error
    for problem in nulls(result, schema):
        raise InvalidData(f"{what}: {problem}")
    return result


def nulls(data: pa.Table, schema: pa.Schema) -> list[str]:
    """One line for each column of `data` that holds nulls though `schema` says that it must not."""
    counts = {field.name: data[field.name].null_count for field in schema if not field.nullable}
    return [f"column {name} must not be null, {count} rows are" for name, count in counts.items() if count]
