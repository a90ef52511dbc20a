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
from corpus_builder.datasets.cards import Card, card_from, card_path, file_from, load_card, read_front_matter
from corpus_builder.datasets.duplicates import Sketch, copies_across, copies_between, sketch
from corpus_builder.datasets.listing import listing
from corpus_builder.datasets.prepare import FOR_PEOPLE, split_groups
from corpus_builder.datasets.raw import ROLES, RawDataset, problems_of
from corpus_builder.datasets.splits import assign_roles
from metaquery.errors import InvalidCard, InvalidInput, MedCurvesError
from metaquery.schema.documents import violations

_REQUIRED = " is a required property"
_COMPARED_WITHIN = 20_000  # images: the pairs of more take minutes

Violation = tuple[tuple[str | int, ...], str]


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found: the problems, one line each, a summary where there is none, and remarks on other datasets."""

    problems: tuple[str, ...]
    summary: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


def examine(name_or_path: str | Path, data_root: Path | None, against: Sequence[str] = ()) -> Examination:
    """Hold the card called `name_or_path`, or in the file at that path, against its schema, itself and its files.

    Goes on after a problem as far as what is left can still be judged: the files of a card without a title, the
    counts of data whose split is unusable. Looks for copies of its images in the datasets `against`, names of cards
    or `all` that are present; slices are not looked for in volumes. Raises UnknownName where there is no such card.
    """
    path = card_path(name_or_path)
    others = _others(path, data_root, against)
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
    if not raw.usable(card):
        return Examination(tuple(problems))
    split_problems, summary = _examine_split(card, raw)
    problems += split_problems
    own = sketch(raw.images, card.n_dims)
    comparable = [other for other in others if other.n_dims == card.n_dims]
    shared, remarks = _compare(card, own, comparable, data_root)
    remarks += [
        f"not held against {other.name}: slices are not looked for in volumes"
        for other in others
        if other.n_dims != card.n_dims and other.name in against
    ]
    problems += shared
    return Examination(tuple(problems), "" if problems else summary + _leaks(card, raw, own), tuple(remarks))


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
    if stopping or broken - {*FOR_PEOPLE, "name"} or of_format:
        return problems, None
    substitutes = {key: path.stem for key in (*FOR_PEOPLE, "name") if key in broken}
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
            locate_file(file_from(item), data_root, name=path.stem, source=str(path))
        except MedCurvesError as error:
            problems.append(str(error))
    return problems


def _examine_split(card: Card, raw: RawDataset) -> tuple[list[str], str]:
    """Problems of the folds, each once, and the summary of a sound dataset."""
    groups = split_groups(card, raw)
    problems: dict[str, None] = {}
    first = np.array([], dtype=np.str_)
    for fold in range(card.split.folds):
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


def _others(path: Path, data_root: Path | None, against: Sequence[str]) -> list[Card]:
    """The cards that `against` names, but for the one at `path`; `all` are those whose files are present."""
    named = [load_card(name) for name in dict.fromkeys(against) if name != "all"]
    if itself := [card.name for card in named if _same_card(card.name, path)]:
        raise InvalidInput(f"{itself[0]} cannot be held against itself: expected the name of another dataset")
    if "all" in against:
        present = [row["dataset"] for row in listing(data_root) if row["present"] == "yes"]
        seen = {card.name for card in named}
        named += [load_card(name) for name in present if name not in seen and not _same_card(name, path)]
    return named


def _same_card(name: str, path: Path) -> bool:
    return card_path(name).resolve() == path.resolve()


def _compare(card: Card, own: Sketch, others: Sequence[Card], data_root: Path | None) -> tuple[list[str], list[str]]:
    """What `card` shares with `others`: problems where the families differ, remarks elsewhere."""
    problems, remarks = [], []
    for other in others:
        try:
            copies = copies_between(own, sketch(formats.read(other, data_root).images, other.n_dims))
        except MedCurvesError as error:
            problems.append(f"{card.name} cannot be held against {other.name}: {error}")
            continue
        if not len(copies.first):
            remarks.append(f"shares no image with {other.name} (highest correlation {copies.highest:.3f})")
            continue
        shared = (
            f"shares {len(copies.first)} images with {other.name} (the first: sample {copies.first[0]} there sample "
            f"{copies.second[0]}, correlation {copies.ncc[0]:.3f})"
        )
        if card.family == other.family:
            remarks.append(f"{shared}; both have the family {card.family!r}")
        else:
            problems.append(
                f"{card.name} {shared}, but their families are {card.family!r} and {other.family!r}: "
                f"give both the family {other.family!r}"
            )
    return problems, remarks


def _leaks(card: Card, raw: RawDataset, own: Sketch) -> str:
    """End of the summary: the images with a copy where a split can put the other side; empty where there are none."""
    if len(raw.images) > _COMPARED_WITHIN or card.split.kind == "table":
        return ""
    official = card.split.kind == "official"
    sides = raw.official_roles if official and raw.official_roles is not None else split_groups(card, raw)
    copies = copies_across(own, sides)
    if not len(copies.first):
        return ""
    return (
        f"; leak: {len(copies.first)} images have a copy in another {'role' if official else 'group'} "
        f"(the first: samples {copies.first[0]} and {copies.second[0]}, correlation {copies.ncc[0]:.3f})"
    )
