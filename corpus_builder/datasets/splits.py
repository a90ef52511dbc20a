"""Roles of the samples in a fold: official or grouped, never with a group on two sides."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpus_builder.datasets.cards import SplitSpec
from corpus_builder.datasets.prepare import PreparedDataset
from corpus_builder.datasets.raw import ROLES, refuse
from metaquery.errors import InvalidData, InvalidInput, LeakageError

_VALIDATION_PARTS = 5


def roles(prepared: PreparedDataset, fold: int, caps: Mapping[str, int | None] | None = None) -> NDArray[np.str_]:
    """Role of each sample in `fold`, (n,): `train`, `val`, `test`, or the empty string where a cap leaves it out.

    `caps` limits the samples of a role; see `assign_roles`.
    """
    return assign_roles(
        prepared.labels,
        prepared.groups,
        prepared.official_roles,
        prepared.card.split,
        fold,
        caps,
        class_names=prepared.class_names,
        name=prepared.card.name,
    )


def assign_roles(
    labels: NDArray[np.int64],
    groups: NDArray[np.str_],
    official_roles: NDArray[np.str_] | None,
    split: SplitSpec,
    fold: int,
    caps: Mapping[str, int | None] | None = None,
    *,
    class_names: tuple[str, ...],
    name: str,
) -> NDArray[np.str_]:
    """Role of each sample, (n,), from `labels`, `groups` and, for a published split, `official_roles`, all (n,).

    Grouped: the samples are cut into `split.folds` stratified parts of whole groups; part `fold` tests, the next
    one validates, the others train. From a table, `official_roles` is (folds, n); where a fold has no `val`, the
    samples that train are cut into five such parts, of which one validates. A cap then keeps whole groups, in the
    proportions of the classes; it is exceeded only where one group for each class already has more samples. Raises
    InvalidInput for an unknown fold or cap, InvalidData where a class is missing from a role, LeakageError where a
    group has samples in two roles.
    """
    if not 0 <= fold < split.folds:
        known = "only fold 0, as its split is official" if split.kind == "official" else f"folds 0 to {split.folds - 1}"
        raise InvalidInput(f"{name} has no fold {fold}: expected {known}")
    limits = {role: cap for role, cap in (caps or {}).items() if cap is not None}
    for role, cap in limits.items():
        if role not in ROLES or cap < 1:
            raise InvalidInput(
                f"a cap of {cap} on role {role!r} is not usable: expected a positive number for {', '.join(ROLES)}"
            )
    if split.kind == "grouped":
        result = _grouped(labels, groups, split, fold, class_names, name)
    elif official_roles is None:
        raise InvalidData(f"{name}: expected official roles in the data, got none; correct the card's split")
    elif split.kind == "table":
        result = _with_validation(official_roles[fold].astype("U5"), labels, groups, split, class_names, name)
    else:
        result = official_roles.astype("U5")
    for role, cap in limits.items():
        members = np.flatnonzero(result == role)
        rng = np.random.default_rng([split.seed, fold, ROLES.index(role)])
        result[members[~_capped(labels[members], groups[members], cap, rng)]] = ""
    _check(result, labels, groups, class_names, f"{name}, fold {fold}")
    return result


def split_rows(prepared: PreparedDataset, fold: int, roles: NDArray[np.str_]) -> list[dict[str, Any]]:
    """Rows of the table `splits`: the samples that have a role in `fold`, in the order of the source."""
    return [
        {
            "dataset": prepared.card.name,
            "fold": fold,
            "sample": int(sample),
            "group": str(prepared.groups[sample]),
            "label": int(prepared.labels[sample]),
            "role": str(roles[sample]),
        }
        for sample in np.flatnonzero(roles != "")
    ]


def _grouped(
    labels: NDArray[np.int64],
    groups: NDArray[np.str_],
    split: SplitSpec,
    fold: int,
    class_names: tuple[str, ...],
    name: str,
) -> NDArray[np.str_]:
    for index, class_name in enumerate(class_names):
        found = len(np.unique(groups[labels == index]))
        if found < split.folds:
            raise InvalidData(
                f"{name}: expected at least {split.folds} groups with class {class_name!r}, one per fold, got {found}; "
                "use fewer folds in the card"
            )
    parts = _parts(labels, groups, split.folds, split.seed)
    result = np.full(len(labels), "train", dtype="U5")
    result[parts[fold]] = "test"
    result[parts[(fold + 1) % split.folds]] = "val"
    return result


def _with_validation(
    roles: NDArray[np.str_],
    labels: NDArray[np.int64],
    groups: NDArray[np.str_],
    split: SplitSpec,
    class_names: tuple[str, ...],
    name: str,
) -> NDArray[np.str_]:
    """`roles` of a fold of a table, where one part of what trains validates if the table says nothing of it."""
    if (roles == "val").any():
        return roles
    training = np.flatnonzero(roles == "train")
    for index, class_name in enumerate(class_names):
        found = len(np.unique(groups[training][labels[training] == index]))
        if found < _VALIDATION_PARTS:
            raise InvalidData(
                f"{name}: expected at least {_VALIDATION_PARTS} groups with class {class_name!r} in train, of which "
                f"one part becomes val, got {found}; give val in the table {split.file}"
            )
    parts = _parts(labels[training], groups[training], _VALIDATION_PARTS, split.seed)
    roles[training[parts[0]]] = "val"
    return roles


def _parts(labels: NDArray[np.int64], groups: NDArray[np.str_], n_parts: int, seed: int) -> list[NDArray[np.int64]]:
    """The indices of the samples in each of `n_parts` stratified parts of whole groups."""
    from sklearn.model_selection import StratifiedGroupKFold

    folder = StratifiedGroupKFold(n_parts, shuffle=True, random_state=seed)
    return [part for _, part in folder.split(np.zeros(len(labels)), labels, groups)]


def _capped(
    labels: NDArray[np.int64], groups: NDArray[np.str_], cap: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which samples of one role to keep, (n,): whole groups, drawn in random order, at most `cap` samples.

    First every class gets a group, the rarest class first: the first that fits, else the smallest. Then the class
    that is furthest below its share gets its next group that fits, until none does.
    """
    if len(labels) <= cap:
        return np.ones(len(labels), dtype=np.bool_)
    n_classes = int(labels.max()) + 1
    names, group_of = np.unique(groups, return_inverse=True)
    contents = np.zeros((len(names), n_classes), dtype=np.int64)
    np.add.at(contents, (group_of, labels), 1)
    sizes, totals = contents.sum(1), contents.sum(0)
    order = rng.permutation(len(names))
    kept = np.zeros(len(names), dtype=np.bool_)

    for label in np.argsort(totals, kind="stable"):
        having = order[contents[order, label] > 0]
        if not len(having) or kept[having].any():
            continue
        fitting = having[sizes[having] <= cap - sizes[kept].sum()]
        kept[fitting[0] if len(fitting) else having[np.argmin(sizes[having])]] = True

    main_class = contents.argmax(1)
    queues = {label: [g for g in order[::-1] if main_class[g] == label and not kept[g]] for label in range(n_classes)}
    taken, room = contents[kept].sum(0), cap - int(sizes[kept].sum())
    while room > 0 and (waiting := [label for label, queue in queues.items() if queue]):
        group = queues[min(waiting, key=lambda label: taken[label] / totals[label])].pop()
        if sizes[group] <= room:
            kept[group] = True
            taken += contents[group]
            room -= int(sizes[group])
    return kept[group_of]


def _check(
    roles: NDArray[np.str_],
    labels: NDArray[np.int64],
    groups: NDArray[np.str_],
    class_names: tuple[str, ...],
    what: str,
) -> None:
    """Raise where a class is missing from a role, or a group is in two; all such problems are in the notes."""
    problems = []
    for role in ROLES:
        present = np.unique(labels[roles == role])
        if absent := [class_names[index] for index in range(len(class_names)) if index not in present]:
            problems.append(
                f"{what}: expected every class in every role, but {role} has no sample of {', '.join(absent)}; "
                "use fewer folds or another seed in the card"
            )
    used = roles != ""
    sides = sorted(set(zip(groups[used].tolist(), roles[used].tolist(), strict=True)))
    leaks = [
        f"{what}: expected each group in one role, but {group!r} is in {role} and {second}; correct the split"
        for (group, role), (other, second) in pairwise(sides)
        if group == other
    ]
    refuse([*problems, *leaks], InvalidData if problems else LeakageError)
