"""Where the schema files are, and checking a JSON document against one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from metaquery.errors import InvalidInput
from metaquery.schema.conform import conforms

MANIFEST = "corpus.json"  # the file that makes a directory a corpus
SPACE = "space.json"
CARD = "README.md"  # the data card, where a corpus has one
SURROGATES = "surrogate"  # the directory of a corpus's surrogates, by metric; in no manifest, as they come later
SCHEMA_VERSION = 1


@cache
def schema_root() -> Path:
    """Directory of the schema files: beside the packages in a checkout, inside `metaquery` in a wheel."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "schemas"
    return installed if installed.is_dir() else package.parent / "schemas"


@cache
def _schema(name: str) -> Any:
    return json.loads((schema_root() / f"{name}.schema.json").read_text())


@cache
def _validator(name: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(_schema(name))


def violations(name: str, document: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """Where `document` violates `NAME.schema.json` and how: pairs of a path of keys and a message, sorted by path."""
    if conforms(_schema(name), document):
        return []
    found = sorted(_validator(name).iter_errors(document), key=lambda v: list(map(str, v.absolute_path)))
    return [(tuple(violation.absolute_path), violation.message) for violation in found]


def check_document(name: str, document: Mapping[str, Any], *, what: str, error: type[Exception] = InvalidInput) -> None:
    """Raise `error` with every violation of `NAME.schema.json` in `document`, which the message calls `what`."""
    problems = [f"{'.'.join(map(str, path)) or 'top level'}: {message}" for path, message in violations(name, document)]
    if problems:
        raise error(f"{what} does not follow {name}.schema.json: " + "; ".join(problems))
