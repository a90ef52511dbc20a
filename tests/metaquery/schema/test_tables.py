"""The schema files themselves, and tables made after them."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from factory import make_space

from metaquery.errors import CorpusError, InvalidData, InvalidInput, UnknownName
from metaquery.schema import TABLE_NAMES, check_document, configs_schema, schema_root, table
from metaquery.schema.tables import arrow_type, from_rows, schema_of


@pytest.mark.parametrize("name", TABLE_NAMES)
def test_schema_files_hold_together(name: str) -> None:
    spec = table(name)
    columns = [column.name for column in spec.columns]
    assert spec.name == name
    assert len(set(columns)) == len(columns)
    assert set(spec.primary_key) <= set(columns)
    assert all(column.description.endswith(".") for column in spec.columns)
    assert not any(column.nullable for column in spec.columns if column.name in spec.primary_key)
    assert spec.arrow_schema().names == columns
    for keys, target in spec.foreign_keys:
        assert set(keys) <= set(columns)
        assert len(keys) == len(table(target).primary_key)


def test_there_is_a_file_for_every_table_and_no_other() -> None:
    assert sorted(path.stem for path in (schema_root() / "tables").iterdir()) == sorted(TABLE_NAMES)


def test_columns_of_configs_come_from_the_space() -> None:
    schema = configs_schema(make_space())
    assert [(field.name, str(field.type), field.nullable) for field in schema] == [
        ("config_id", "string", False),
        ("design", "string", False),
        ("backbone", "string", True),
        ("learning_rate", "double", True),
        ("optimizer", "string", True),
        ("momentum", "double", True),
        ("batch_size", "int64", True),
    ]
    assert schema_of("configs", make_space()) == schema
    assert schema_of("trials", make_space()) == table("trials").arrow_schema()


def test_types_in_words() -> None:
    assert arrow_type("int32") == pa.int32()
    assert arrow_type("list<string>") == pa.list_(pa.string())


def test_unknown_table() -> None:
    with pytest.raises(UnknownName, match="unknown table 'trails': did you mean trials"):
        table("trails")


ROW = {"dataset": "a", "fold": 0, "name": "x", "value": 1.0, "seconds": 0.5}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{**ROW, "extra": 1}], r"columns \['extra'\] are missing or not in the schema"),
        ([{"dataset": "a"}], r"columns \['fold', 'name', 'seconds', 'value'\] are missing"),
        ([{**ROW, "fold": "first"}], "metafeatures: "),
        ([ROW, {**ROW, "seconds": None}], "column seconds must not be null, 1 rows are"),
        ([{**ROW, "fold": 2**40}], "metafeatures: "),
    ],
)
def test_rows_that_break_the_schema(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        from_rows(table("metafeatures").arrow_schema(), rows, what="metafeatures")


def test_rows_in_order() -> None:
    data = from_rows(table("metafeatures").arrow_schema(), [ROW, {**ROW, "name": "y"}], what="metafeatures")
    assert data.to_pylist() == [ROW, {**ROW, "name": "y"}]
    assert from_rows(table("metafeatures").arrow_schema(), [], what="metafeatures").num_rows == 0


def test_documents_name_every_violation() -> None:
    document = {"schema_version": 1, "name": "", "hyperparameters": [{"name": "X", "kind": "float", "default": 1}]}
    with pytest.raises(InvalidInput) as caught:
        check_document("search_space", document, what="my space")
    message = str(caught.value)
    assert message.startswith("my space does not follow search_space.schema.json: ")
    assert "hyperparameters.0.name: 'X' does not match" in message
    assert "hyperparameters.0: 'low' is a required property" in message
    assert "name: '' should be non-empty" in message
    with pytest.raises(CorpusError):
        check_document("manifest", {}, what="x", error=CorpusError)


def test_schemas_are_json_schemas() -> None:
    from jsonschema import Draft202012Validator

    for path in schema_root().glob("*.schema.json"):
        Draft202012Validator.check_schema(json.loads(path.read_text()))
