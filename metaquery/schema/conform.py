"""Whether a JSON document follows a schema, told by a walk over both: the answer `jsonschema` gives, in a thousandth
of the time that its import takes. Only the keywords that the schemas of this package use are known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int, float),
    "number": (int, float),
    "null": (type(None),),
}
_NOTES = {"$schema", "$id", "title", "description"}
_KNOWN = _NOTES | {
    "type",
    "required",
    "properties",
    "additionalProperties",
    "items",
    "pattern",
    "minimum",
    "const",
    "enum",
}


def conforms(schema: Mapping[str, Any], document: Any) -> bool:
    """Whether `document` certainly follows `schema`; False also where a keyword is not known here."""
    if not schema.keys() <= _KNOWN:
        return False
    types = schema.get("type", [])
    if types and not any(_is(kind, document) for kind in ([types] if isinstance(types, str) else types)):
        return False
    if "const" in schema and not _equal(schema["const"], document):
        return False
    if "enum" in schema and not any(_equal(value, document) for value in schema["enum"]):
        return False
    if isinstance(document, str):
        return "pattern" not in schema or re.search(schema["pattern"], document) is not None
    if isinstance(document, list):
        return "items" not in schema or all(conforms(schema["items"], item) for item in document)
    if isinstance(document, dict):
        return _object_conforms(schema, document)
    if _is("number", document):
        return "minimum" not in schema or bool(document >= schema["minimum"])
    return True


def _object_conforms(schema: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    if not all(name in document for name in schema.get("required", ())):
        return False
    known = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for name, value in document.items():
        part = known.get(name, others)
        if not (part if isinstance(part, bool) else conforms(part, value)):
            return False
    return True


def _is(kind: str, value: object) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind]) and (kind != "integer" or value == value // 1)  # type: ignore[operator]


def _equal(expected: object, value: object) -> bool:
    """JSON's equality of plain values: true is not 1, but 1.0 is."""
    return isinstance(expected, bool) == isinstance(value, bool) and expected == value
