"""The quick look at a document says what jsonschema says, or leaves it to jsonschema."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import metaquery as mq
from metaquery.schema.conform import conforms
from metaquery.schema.documents import schema_root

SCHEMA = json.loads((schema_root() / "manifest.schema.json").read_text())
MANIFEST = mq.open("mini").manifest
PLAIN = st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=3) | st.just([]) | st.just({})


def places(part: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = part.items() if isinstance(part, dict) else enumerate(part[:2]) if isinstance(part, list) else ()
    return [path, *(found for key, inner in keys for found in places(inner, (*path, key)))]


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(places(MANIFEST)[1:]), PLAIN, st.sampled_from(["replace", "remove", "add"]))
def test_quick_is_thorough(path: tuple[Any, ...], value: Any, change: str) -> None:
    document = copy.deepcopy(MANIFEST)
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    if change == "remove":
        del parent[path[-1]]
    elif change == "add" and isinstance(parent, dict):
        parent["another"] = value
    else:
        parent[path[-1]] = value
    assert conforms(SCHEMA, document) == Draft202012Validator(SCHEMA).is_valid(document)


def test_an_unknown_keyword_is_left_to_jsonschema() -> None:
    assert not conforms({"type": "string", "minLength": 1}, "a")
    assert not conforms({"properties": {"a": {"oneOf": [{}]}}}, {"a": 1})


def test_opening_needs_no_jsonschema_and_no_numpy() -> None:
    code = "import sys, metaquery as mq; mq.open('mini'); print({'jsonschema', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
