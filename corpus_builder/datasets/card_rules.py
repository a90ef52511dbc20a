"""What the schema of data cards cannot say: which parts of a card contradict each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from corpus_builder.datasets.formats import format_names

IMAGE_FORMATS = ("image_folder", "image_table")
_IMAGE_KEYS = ("folder", "size", "group_pattern", "source_names", "tree_sha256")

Block = Mapping[str, Any]


class Rule(NamedTuple):
    """A rule on the block `medcurves`: the keys that it reads, and its problems, one line each.

    `unreadable` says that the dataset of a card that breaks it cannot be read.
    """

    reads: frozenset[str]
    unreadable: bool
    problems: Callable[[Block, Path], Iterator[str]]


def contradictions(block: Block, path: Path, rules: Collection[Rule] | None = None) -> list[str]:
    """Where `block`, of the card at `path`, breaks `rules` (all of them unless given), one line each.

    The keys that the rules read must follow the schema.
    """
    return [problem for rule in (RULES if rules is None else rules) for problem in rule.problems(block, path)]


def _name(block: Block, path: Path) -> Iterator[str]:
    if block["name"] != path.stem:
        yield f"name is {block['name']!r} but the file is called {path.name}"


def _format(block: Block, _path: Path) -> Iterator[str]:
    if block["format"] not in format_names():
        yield f"format {block['format']!r} is not one of {', '.join(format_names())}"


def _classes(block: Block, _path: Path) -> Iterator[str]:
    if set(block["class_counts"]) != set(block["classes"]):
        yield f"class_counts has {sorted(block['class_counts'])} but the classes are {sorted(block['classes'])}"


def _total(block: Block, _path: Path) -> Iterator[str]:
    total = sum(block["class_counts"].values())
    if total != block["n_samples"]:
        yield f"class_counts sum to {total} but n_samples is {block['n_samples']}"


def _groups(block: Block, _path: Path) -> Iterator[str]:
    if block["n_groups"] > block["n_samples"]:
        yield f"n_groups is {block['n_groups']}, more than the {block['n_samples']} samples"


def _generator(block: Block, _path: Path) -> Iterator[str]:
    if "generator" in block and (read := [key for key in ("files", "keys", "folder") if key in block]):
        yield f"it has a generator and also {' and '.join(read)}; a dataset is generated or read from files"


def _official(block: Block, _path: Path) -> Iterator[str]:
    if block["split"]["kind"] != "official":
        return
    if len(block["split"]) > 1:
        yield "an official split has no folds and no seed"
    if block["format"] in ("npz", "image_table") and "split" not in block.get("keys", {}):
        holder = "array" if block["format"] == "npz" else "column"
        yield f"the split is official but keys.split does not say which {holder} holds it"
    if block["format"] == "image_folder":
        yield "a folder of images has no official split; use split.kind grouped, or format image_table"


def _image_keys(block: Block, _path: Path) -> Iterator[str]:
    if block["format"] not in IMAGE_FORMATS and (unused := [key for key in _IMAGE_KEYS if key in block]):
        yield f"format {block['format']} does not use {', '.join(unused)}; leave them out"


def _image_files(block: Block, _path: Path) -> Iterator[str]:
    if block["format"] == "image_folder" and (unused := [key for key in ("files", "keys") if block.get(key)]):
        yield f"format image_folder reads folder and not {' and '.join(unused)}; leave them out"
    if block["format"] == "image_table" and "class_names" in block.get("keys", {}):
        yield "the classes of a table are in its labels; leave out keys.class_names"


def _group_pattern(block: Block, _path: Path) -> Iterator[str]:
    if "group_pattern" not in block:
        return
    try:
        found = re.compile(block["group_pattern"]).groups
    except re.error as error:
        yield f"group_pattern {block['group_pattern']!r} is not a regular expression: {error}"
        return
    if found != 1:
        yield f"group_pattern {block['group_pattern']!r} has {found} capture groups, expected one: (...)"
    if "groups" in block.get("keys", {}):
        yield "groups come from group_pattern and also from keys.groups; leave one out"


def _source_names(block: Block, _path: Path) -> Iterator[str]:
    if (names := block.get("source_names")) is None:
        return
    if set(names) != set(block["classes"]):
        yield f"source_names has {sorted(names)} but the classes are {sorted(block['classes'])}"
    if len(set(names.values())) < len(names):
        yield f"source_names gives two classes the same name: {sorted(names.values())}"


RULES = tuple(
    Rule(frozenset(reads.split()), unreadable, problems)
    for reads, unreadable, problems in (
        ("name", False, _name),
        ("format", True, _format),
        ("class_counts classes", True, _classes),
        ("class_counts n_samples", False, _total),
        ("n_groups n_samples", False, _groups),
        ("generator files keys folder", False, _generator),
        ("split format keys", False, _official),
        ("format folder size group_pattern source_names tree_sha256", False, _image_keys),
        ("format files keys", False, _image_files),
        ("group_pattern keys", True, _group_pattern),
        ("source_names classes", True, _source_names),
    )
)
