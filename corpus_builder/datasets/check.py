"""Everything that is wrong with a data card or with its files, at once: `corpus-builder datasets check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from corpus_builder.datasets import formats
from corpus_builder.datasets.archive import locate_file
from corpus_builder.datasets.card_rules import RULES, contradictions
from corpus_builder.datasets.cards import Card, DataFile, card_from, card_path, read_front_matter
from corpus_builder.datasets.prepare import split_groups
from corpus_builder.datasets.raw import ROLES, RawDataset, problems_of
from corpus_builder.datasets.splits import assign_roles
from metaquery.errors import InvalidCard, MedCurvesError
from metaquery.schema.documents import violations

# Keys of a card that are not needed to read its data.
_FOR_PEOPLE = ("title", "modality", "body_part", "oncology", "family", "licence", "source", "citation")
_REQUIRED = " is a required property"

Violation = tuple[tuple[str | int, ...], str]


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found: the problems, one line each, and, where there is none, a summary."""

    problems: tuple[str, ...]
    summary: str = ""

    @property
    def sound(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


def examine(name_or_path: str | Path, data_root: Path | None) -> Examination:
    """Hold the card called `name_or_path`, or in the file at that path, against its schema, itself and its files.

    Goes on after a problem as far as what is left can still be judged: the files of a card without a title, the
    counts of data whose split is unusable. Raises UnknownName where there is no such card.
    """
    path = card_path(name_or_path)
    try:
        front = read_front_matter(path)
    except InvalidCard as error:
        return Examination((str(error),))
    found = violations("data_card", front)
    problems, card = _examine_card(front, path, found)
    missing = _examine_files(front.get("medcurves"), path, found, data_root)
    if card is None or missing:
        return Examination((*problems, *missing))
    try:
        raw = formats.read_unchecked(card, data_root)
    except MedCurvesError as error:
        return Examination((*problems, *problems_of(error)))
    problems += raw.problems(card)
    if raw.usable(card):
        split_problems, summary = _examine_split(card, raw)
        return Examination((*problems, *split_problems), "" if problems or split_problems else summary)
    return Examination(tuple(problems))


def _examine_card(front: Mapping[str, Any], path: Path, found: Sequence[Violation]) -> tuple[list[str], Card | None]:
    """The problems of the front matter at `path`, and the card, where what is left suffices to read the data."""
    what = f"data card {path}"
    problems = [f"{what}: {'.'.join(map(str, keys)) or 'top level'}: {message}" for keys, message in found]
    given = front.get("medcurves")
    if not isinstance(given, dict):
        return problems, None
    known = {field.name: field for field in fields(Card)}
    needed = {name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING}
    broken = {str(keys[1]) for keys, _ in found if keys[:1] == ("medcurves",) and len(keys) > 1}
    broken |= needed - given.keys()
    rules = [rule for rule in RULES if not rule.reads & broken]
    block = {key: value for key, value in given.items() if key in known}
    problems += [f"{what}: {problem}" for problem in contradictions(block, path, rules)]
    stopping = contradictions(block, path, [rule for rule in rules if rule.unreadable])
    of_format = [  # keys that the card's format needs beyond those of every card
        message
        for keys, message in found
        if keys == ("medcurves",)
        and message.endswith(_REQUIRED)
        and message.removesuffix(_REQUIRED)[1:-1] not in needed
    ]
    if stopping or broken - {*_FOR_PEOPLE, "name"} or of_format:
        return problems, None
    substitutes = {key: path.stem for key in (*_FOR_PEOPLE, "name") if key in broken}
    return problems, card_from(block | substitutes)


def _examine_files(block: object, path: Path, found: Sequence[Violation], data_root: Path | None) -> list[str]:
    """Which of the files in `block`, of the card at `path`, are missing or not those; leaves out violations."""
    files = block.get("files") if isinstance(block, dict) else None
    violating = {keys[2] for keys, _ in found if keys[:2] == ("medcurves", "files") and len(keys) > 2}
    problems = []
    for index, item in enumerate(files if isinstance(files, list) else ()):
        if index in violating:
            continue
        try:
            locate_file(DataFile(**item), data_root, name=path.stem, source=str(path))
        except MedCurvesError as error:
            problems.append(str(error))
    return problems


def _examine_split(card: Card, raw: RawDataset) -> tuple[list[str], str]:
    """Problems of the folds, each once, and the summary of a sound dataset."""
    groups = split_groups(card, raw)
    problems: dict[str, None] = {}
    first = np.array([], dtype=np.str_)
    for fold in range(card.split.folds if card.split.kind == "grouped" else 1):
        try:
            roles = assign_roles(
                raw.labels, groups, raw.official_roles, card.split, fold, class_names=card.classes, name=card.name
            )
        except MedCurvesError as error:
            problems |= dict.fromkeys(problems_of(error))
        else:
            first = roles if fold == 0 else first
    n_groups = len(np.unique(raw.groups))
    joined = n_groups - len(np.unique(groups))
    per_class = ", ".join(f"{name} {n}" for name, n in zip(card.classes, np.bincount(raw.labels), strict=False))
    counts = Counter(first.tolist())
    summary = (
        f"{len(raw.labels)} samples; {len(card.classes)} classes: {per_class}; {n_groups} groups, "
        f"{joined} of them joined to another because they share an identical image; "
        f"fold 0: {', '.join(f'{role} {counts[role]}' for role in ROLES)}"
    )
    return list(problems), summary
