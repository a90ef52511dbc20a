"""Tables of data cards: one YAML file that defines many datasets which share most of their definition.

The card of the dataset NAME in the table at PATH is addressed as if it were a file, as PATH/NAME.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from metaquery.errors import InvalidCard
from metaquery.schema import check_document

SUFFIX = ".yaml"
_OF_THE_SET = ("license", "description", "sizes")  # keys of a set that are not in the block `medcurves`


def is_entry(path: Path) -> bool:
    """Whether `path` addresses a card in a table, and the table has it."""
    return path.parent.suffix == SUFFIX and path.parent.is_file() and path.name in set_of_each(path.parent)


def set_of_each(table: Path) -> dict[str, str]:
    """The names of the datasets in the table at `table`, each with the name of its set."""
    return {name: of for of, entry in _read(table)["sets"].items() for name in entry["sizes"]}


def front_matter(path: Path) -> dict[str, Any]:
    """The front matter of the card that `path` addresses, as a Markdown card would have it; InvalidCard where the
    table is not YAML or does not follow `card_table.schema.json`."""
    table = _read(path.parent)
    of = set_of_each(path.parent)[path.name]
    entry = table["sets"][of]
    size = entry["sizes"][path.name]
    n_samples = sum(entry["split_counts"].values())
    title = f"{entry['title']}, {' x '.join(map(str, size['shape']))}"
    templates = (table["path"], *table["urls"])
    file, *urls = (text.replace("{set}", of).replace("{name}", path.name) for text in templates)
    block = {
        **table.get("shared", {}),
        **{key: value for key, value in entry.items() if key not in _OF_THE_SET},
        "name": path.name,
        "title": title,
        "shape": size["shape"],
        "n_dims": len(size["shape"]),
        "n_samples": n_samples,
        "n_groups": n_samples,
        "files": [{"path": file, "md5": size["md5"], "urls": urls}],
    }
    return {
        "license": entry["license"],
        "pretty_name": title,
        "task_categories": ["image-classification"],
        "tags": ["medical", f"{len(size['shape'])}d", *(["oncology"] if entry["oncology"] != "no" else [])],
        "size_categories": [_size_category(n_samples)],
        "medcurves": block,
    }


def _size_category(n_samples: int) -> str:
    limits = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K"}
    return next((name for limit, name in limits.items() if n_samples < limit), "100K<n<1M")


@cache
def _read(path: Path) -> Mapping[str, Any]:
    import yaml

    what = f"table of data cards {path}"
    try:
        # the loader in C, where there is one, is ten times faster
        table = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidCard(f"{what} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(table, dict):
        raise InvalidCard(f"{what} must be a mapping, got {type(table).__name__}")
    check_document("card_table", table, what=what, error=InvalidCard)
    return table
