"""What the schema of data cards cannot say: which parts of a card contradict each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from corpus_builder.datasets.formats import format_names

IMAGE_FORMATS = ("image_folder", "image_table")
VOLUME_FORMATS = ("dicom_table", "nifti_table")
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
    if "class_counts" in block and set(block["class_counts"]) != set(block["classes"]):
        yield f"class_counts has {sorted(block['class_counts'])} but the classes are {sorted(block['classes'])}"


def _total(block: Block, _path: Path) -> Iterator[str]:
    for key in ("class_counts", "split_counts"):
        if key in block and (total := sum(block[key].values())) != block["n_samples"]:
            yield f"{key} sum to {total} but n_samples is {block['n_samples']}"


def _groups(block: Block, _path: Path) -> Iterator[str]:
    if block["n_groups"] > block["n_samples"]:
        yield f"n_groups is {block['n_groups']}, more than the {block['n_samples']} samples"


def _generator(block: Block, _path: Path) -> Iterator[str]:
    if "generator" in block and (read := [key for key in ("files", "keys", "folder") if key in block]):
        yield f"it has a generator and also {' and '.join(read)}; a dataset is generated or read from files"


def _official(block: Block, _path: Path) -> Iterator[str]:
    if block["split"]["kind"] != "official":
        if "split_counts" in block:
            yield "split_counts are those of an official split; leave them out or use split.kind official"
        return
    if len(block["split"]) > 1:
        yield "an official split has no folds and no seed"
    if block["format"] in ("npz", "image_table", *VOLUME_FORMATS) and "split" not in block.get("keys", {}):
        holder = "array" if block["format"] == "npz" else "column"
        yield f"the split is official but keys.split does not say which {holder} holds it"
    if block["format"] == "image_folder":
        yield "a folder of images has no official split; use split.kind grouped, or format image_table"


def _split_table(block: Block, _path: Path) -> Iterator[str]:
    split = block["split"]
    if split["kind"] != "table":
        if "file" in split:
            yield f"split.file is that of a split table, but split.kind is {split['kind']}; leave one out"
        return
    others = [item["path"] for item in block.get("files", ()) if item["path"] != split["file"]]
    if len(others) == len(block.get("files", ())):
        yield f"split.file {split['file']!r} is not in files; add it there, with its checksum"
    if "split" in block.get("keys", {}):
        yield "the roles come from split.file and also from keys.split; leave one out"


def _label_rule(block: Block, _path: Path) -> Iterator[str]:
    if "label_rule" in block and block["format"] != "medmnist":
        yield f"format {block['format']} does not use label_rule; leave it out"
    if "label_rule" in block and len(block["classes"]) != 2:
        yield f"label_rule {block['label_rule']} makes two classes, but there are {len(block['classes'])}"


def _shape(block: Block, _path: Path) -> Iterator[str]:
    if len(block.get("shape", ())) not in (0, block["n_dims"]):
        yield f"shape has {len(block['shape'])} numbers but n_dims is {block['n_dims']}"


def _flips(block: Block, _path: Path) -> Iterator[str]:
    if block["n_dims"] == 2 and "front-back" in block.get("augmentation", {}).get("flips", ()):
        yield "augmentation.flips has front-back but the images have two axes; leave it out"


def _image_keys(block: Block, _path: Path) -> Iterator[str]:
    unused = [key for key in _IMAGE_KEYS if key in block]
    if unused and block["format"] not in (*IMAGE_FORMATS, *VOLUME_FORMATS):
        yield f"format {block['format']} does not use {', '.join(unused)}; leave them out"


def _image_files(block: Block, _path: Path) -> Iterator[str]:
    if block["format"] == "image_folder" and (unused := [key for key in ("files", "keys") if block.get(key)]):
        yield f"format image_folder reads folder and not {' and '.join(unused)}; leave them out"
    if block["format"] in ("image_table", *VOLUME_FORMATS) and "class_names" in block.get("keys", {}):
        yield "the classes of a table are in its labels; leave out keys.class_names"


def _volume_keys(block: Block, _path: Path) -> Iterator[str]:
    if block["format"] in VOLUME_FORMATS:
        return
    keys = block.get("keys", {})
    unused = [key for key in ("volume", "mixed_groups") if key in block] + ["keys.masks"] * ("masks" in keys)
    if unused:
        yield f"format {block['format']} does not use {', '.join(unused)}; leave them out"
    if isinstance(keys.get("images"), list):
        yield f"format {block['format']} does not take a list in keys.images; name one"


def _volume(block: Block, _path: Path) -> Iterator[str]:
    if block["format"] not in VOLUME_FORMATS or "volume" not in block or "keys" not in block:
        return
    volume, columns, channels = block["volume"], block["keys"]["images"], block["channels"]
    given = len(columns) if isinstance(columns, list) else 1
    if given != channels:
        yield f"keys.images names {given} columns but channels is {channels}; each channel has its own column"
    if ("window" in volume) == ("percentiles" in volume):
        found = "both" if "window" in volume else "neither"
        yield f"volume needs a window or percentiles, one of them, to map values to 0..255, and has {found}"
    windows = volume.get("window", [])
    each = windows if windows and isinstance(windows[0], list) else [windows] * bool(windows)
    if isinstance(next(iter(windows), None), list) and len(windows) != channels:
        yield f"volume.window has {len(windows)} windows but channels is {channels}; give one, or one per channel"
    for low, high in [*each, *([volume["percentiles"]] if "percentiles" in volume else [])]:
        if low >= high:
            yield f"volume maps {low} to 0 and {high} to 255; the first must be smaller"
    needing = [f"volume.{key}" for key in ("margin", "mask_label") if key in volume]
    if needing and "masks" not in block["keys"]:
        yield f"{' and '.join(needing)} needs keys.masks, the column with the path of each mask"


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
        ("class_counts split_counts n_samples", False, _total),
        ("n_groups n_samples", False, _groups),
        ("generator files keys folder", False, _generator),
        ("split split_counts format keys", False, _official),
        ("split files keys", True, _split_table),
        ("label_rule format classes", False, _label_rule),
        ("shape n_dims", False, _shape),
        ("format folder size group_pattern source_names tree_sha256", False, _image_keys),
        ("format files keys", False, _image_files),
        ("augmentation n_dims", False, _flips),
        ("format volume mixed_groups keys", True, _volume_keys),
        ("format volume keys channels", True, _volume),
        ("group_pattern keys", True, _group_pattern),
        ("source_names classes", True, _source_names),
    )
)
