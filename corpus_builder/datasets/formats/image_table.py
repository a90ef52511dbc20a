"""A table (CSV) with the path and the label of each image; the card's `keys` name its columns."""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from corpus_builder.datasets.archive import locate_only
from corpus_builder.datasets.images import ImageFile, group_of, labels_by_source_name, locate_folder, read_images
from corpus_builder.datasets.raw import ROLES
from metaquery.errors import InvalidData

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card
    from corpus_builder.datasets.raw import RawDataset


def read(card: Card, data_root: Path | None) -> RawDataset:
    """Read the images in the order of the table; their paths start at the card's `folder`, else at the data root.

    Raises InvalidInput where the table or the folder is missing, InvalidData for a table or images that are not as
    the card says and InvalidCard where it has no tree_sha256.
    """
    table = locate_only(card, data_root)
    folder = locate_folder(card, data_root)
    labels = labels_by_source_name(card)
    problems: list[str] = []
    files = []
    for place, row in _rows(table, set(card.keys.values()), problems):
        values = {purpose: row[column] for purpose, column in card.keys.items()}
        path = str(PurePosixPath(values["images"]))
        label = labels.get(values["labels"])
        if label is None:
            problems.append(
                f"{place}: expected one of the labels {list(labels)}, got {values['labels']!r}; "
                "correct the table or the card's classes or source_names"
            )
        role = values.get("split", "")
        if "split" in values and role not in ROLES:
            problems.append(f"{place}: expected the split {', '.join(ROLES)}, got {role!r}; correct the table")
        group = values.get("groups") or group_of(card, path, place, problems)
        if "groups" in values and not group:
            problems.append(f"{place}: expected a group in column {card.keys['groups']!r}, got none; fill it in")
        files.append(ImageFile(path, place, -1 if label is None else label, group, role))
    if not files and not problems:
        problems.append(f"{table}: expected one row per image, got none; get the table again")
    return read_images(card, folder, files, problems, official="split" in card.keys)


def _rows(table: Path, columns: set[str], problems: list[str]) -> list[tuple[str, dict[str, str]]]:
    """Where each row of `table` is, for messages, and its cells by column; raises InvalidData where unreadable."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = next(reader, [])
            rows = [(f"{table}, line {reader.line_num}", cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidData(
            f"{table}: expected a CSV in UTF-8, but it cannot be read ({error}); save it again"
        ) from error
    if missing := sorted(columns - set(header)):
        raise InvalidData(f"{table}: expected the columns {missing}, got only {header}; correct the card's keys")
    if doubled := sorted(name for name in columns if header.count(name) > 1):
        raise InvalidData(f"{table}: expected each column once, got {doubled} more than once; rename one")
    whole = []
    for place, cells in rows:
        if len(cells) == len(header):
            whole.append((place, dict(zip(header, cells, strict=True))))
        else:
            problems.append(f"{place}: expected {len(header)} cells, got {len(cells)}; correct the table")
    return whole
