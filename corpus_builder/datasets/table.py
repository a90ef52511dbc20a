"""Tables (CSV) of samples: cells by column, and what every table says of a sample."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from corpus_builder.datasets.images import group_of, labels_by_source_name
from corpus_builder.datasets.raw import ROLES
from metaquery.errors import InvalidData

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card


@dataclass(frozen=True, slots=True)
class TableRow:
    """A sample: where its row is, for messages, the paths of its images, and what the row says of it.

    `label` is -1 where a problem was told, `group` the empty string where each sample is its own group, `role` where
    there is no official split, and `mask` where there are no masks.
    """

    place: str
    paths: tuple[str, ...]
    label: int
    group: str
    role: str
    mask: str


def read_samples(card: Card, table: Path, problems: list[str]) -> list[TableRow]:
    """The rows of `table`, whose columns the card's `keys` name; adds to `problems`, and raises as `read_cells`."""
    images = image_columns(card)
    single = {purpose: column for purpose, column in card.keys.items() if purpose != "images"}
    labels = labels_by_source_name(card)
    header, rows = read_cells(table)
    samples = []
    for place, row in _by_column(table, header, rows, {*images, *single.values()}, problems):
        values = {purpose: row[column] for purpose, column in single.items()}
        paths = tuple(str(PurePosixPath(row[column])) for column in images)
        label = labels.get(values["labels"])
        if label is None:
            problems.append(
                f"{place}: expected one of the labels {list(labels)}, got {values['labels']!r}; "
                "correct the table or the card's classes or source_names"
            )
        role = values.get("split", "")
        if "split" in values and role not in ROLES:
            problems.append(f"{place}: expected the split {', '.join(ROLES)}, got {role!r}; correct the table")
        group = values.get("groups") or group_of(card, paths[0], place, problems)
        if "groups" in values and not group:
            problems.append(f"{place}: expected a group in column {card.keys['groups']!r}, got none; fill it in")
        mask = str(PurePosixPath(values["masks"])) if values.get("masks") else ""
        if "masks" in values and not mask:
            problems.append(f"{place}: expected a path in column {card.keys['masks']!r}, got none; fill it in")
        samples.append(TableRow(place, paths, -1 if label is None else label, group, role, mask))
    if not samples and not problems:
        problems.append(f"{table}: expected one row per image, got none; get the table again")
    return samples


def image_columns(card: Card) -> tuple[str, ...]:
    """The columns of the paths that make up a sample, one per channel where there are several."""
    columns = card.keys["images"]
    return (columns,) if isinstance(columns, str) else tuple(columns)


def read_cells(table: Path) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The header of `table` and, of each row that is not blank, its place, for messages, and its cells.

    Raises InvalidData where it is not a CSV.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = next(reader, [])
            return header, [(f"{table}, line {reader.line_num}", cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidData(
            f"{table}: expected a CSV in UTF-8, but it cannot be read ({error}); save it again"
        ) from error


def _by_column(
    table: Path,
    header: Sequence[str],
    rows: Iterable[tuple[str, list[str]]],
    columns: set[str],
    problems: list[str],
) -> list[tuple[str, Mapping[str, str]]]:
    """The place of each whole row and its cells by column, which must have `columns`."""
    if missing := sorted(columns - set(header)):
        raise InvalidData(f"{table}: expected the columns {missing}, got only {header}; correct the card's keys")
    if doubled := sorted(name for name in columns if header.count(name) > 1):
        raise InvalidData(f"{table}: expected each column once, got {doubled} more than once; rename one")
    whole: list[tuple[str, Mapping[str, str]]] = []
    for place, cells in rows:
        if len(cells) == len(header):
            whole.append((place, dict(zip(header, cells, strict=True))))
        else:
            problems.append(f"{place}: expected {len(header)} cells, got {len(cells)}; correct the table")
    return whole
