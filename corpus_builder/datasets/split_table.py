"""Published folds: a table (CSV) that says which groups train, validate and test in each fold.

It has one of three layouts, told apart by its header:

- lists: columns `0_train`, `0_test`, `1_train`, ..., each of which lists groups (as WORC publishes its splits); the
  other columns are left alone;
- long: columns `fold`, `group` and `role`, one row per fold and group;
- wide: first a column of groups, then one column of roles per fold, in the order of the folds.

Folds are numbered from 0, roles are `train`, `val` and `test`. Every group of the dataset has one role in each fold;
groups that the dataset does not have are left alone. A table without `val` is usual: see `splits.assign_roles`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corpus_builder.datasets.archive import locate
from corpus_builder.datasets.raw import ROLES, refuse
from corpus_builder.datasets.table import read_cells
from metaquery.errors import InvalidData, LeakageError

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card

_LIST = re.compile(rf"(\d+)_({'|'.join(ROLES)})")
_LONG = ("fold", "group", "role")

Entry = tuple[str, str, str, str]  # place, fold, group, role


def read_fold_roles(card: Card, data_root: Path | None, groups: NDArray[np.str_]) -> NDArray[np.str_]:
    """Role of each sample in each fold, (folds, n), from the split table of `card` and the samples' `groups`, (n,).

    Raises InvalidInput where the table is missing, InvalidData where it is not as the card says or leaves out a group
    of the dataset, and LeakageError where it gives a group two roles in a fold.
    """
    (file,) = [file for file in card.files if file.path == card.split.file]
    table = locate(card, file, data_root)
    problems: list[str] = []
    header, rows = read_cells(table)
    entries = list(_entries(header, rows, problems))
    if not entries and not problems:
        problems.append(f"{table}: expected a row per group, got none; get the table again")
    roles: list[dict[str, str]] = [{} for _ in range(card.split.folds)]
    leaks = []
    for place, fold, group, role in entries:
        if not fold.isdecimal() or int(fold) >= card.split.folds:
            problems.append(
                f"{place}: expected folds 0 to {card.split.folds - 1} as the card says, got {fold!r}; "
                "correct split.folds or the table"
            )
        elif role not in ROLES:
            problems.append(
                f"{place}: expected {', '.join(ROLES)} for group {group!r} in fold {fold}, got {role!r}; correct it"
            )
        elif roles[int(fold)].setdefault(group, role) != role:
            leaks.append(
                f"{place}: expected each group in one role, but in fold {fold} {group!r} is in "
                f"{roles[int(fold)][group]} and {role}; correct the table"
            )
    names = np.unique(groups).tolist()
    for number, given in enumerate(roles):
        if not problems and (missing := [name for name in names if name not in given]):
            shown = ", ".join(map(repr, missing[:3]))
            problems.append(
                f"{table}, fold {number}: expected a role for each of the {len(names)} groups, got none for "
                f"{len(missing)}, such as {shown}; name the groups as the dataset does or add them"
            )
    refuse([*dict.fromkeys(problems), *leaks], InvalidData if problems else LeakageError)
    return np.array([[given[group] for group in groups.tolist()] for given in roles], dtype="U5")


def _entries(header: Sequence[str], rows: Sequence[tuple[str, list[str]]], problems: list[str]) -> Iterable[Entry]:
    """What the table says, in any of its layouts; adds rows that are not as long as `header` to `problems`."""
    lists = {index: match for index, name in enumerate(header) if (match := _LIST.fullmatch(name.strip()))}
    long = [header.index(name) for name in _LONG] if set(_LONG) <= set(header) else None
    for place, cells in rows:
        if len(cells) != len(header):
            problems.append(f"{place}: expected {len(header)} cells, got {len(cells)}; correct the table")
        elif lists:
            yield from ((place, m[1], cells[index], m[2]) for index, m in lists.items() if cells[index])
        elif long:
            fold, group, role = (cells[index] for index in long)
            yield place, fold, group, role
        else:
            yield from ((place, str(fold), cells[0], role) for fold, role in enumerate(cells[1:]))
