"""Published folds in a table: its layouts, what is checked, and the validation part of what trains."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_builder.datasets import dataset_key, prepare, roles
from corpus_builder.datasets.cards import Card, DataFile, SplitSpec
from corpus_builder.datasets.formats import read
from corpus_builder.datasets.raw import problems_of
from corpus_builder.datasets.splits import assign_roles
from metaquery.errors import InvalidCard, InvalidData, InvalidInput, LeakageError, MedCurvesError

GROUPS = [f"p{i}" for i in range(10)]  # as `arrays` has them: four samples each, two of each class
Folds = Callable[..., tuple[Card, Path]]


@pytest.fixture
def folds(arrays: dict[str, Any], save: Any) -> Folds:
    """Write a split table beside the npz of `arrays` and give the card, of two folds, and the data root."""

    def write(text: str, n_folds: int = 2) -> tuple[Card, Path]:
        card, root = save(arrays)
        (root / "toy/splits.csv").write_text(text)
        file = DataFile("toy/splits.csv", hashlib.sha256(text.encode()).hexdigest())
        return replace(card, files=(*card.files, file), split=SplitSpec("table", n_folds, 0, file.path)), root

    return write


FIRST = ["test"] * 2 + ["val"] * 2 + ["train"] * 6
SECOND = ["train"] * 5 + ["val"] * 3 + ["test"] * 2
WIDE = "patient,fold 1,fold 2\n" + "".join(f"{g},{a},{b}\n" for g, a, b in zip(GROUPS, FIRST, SECOND))
LONG = "site,fold,role,group\n" + "".join(
    f"x,{fold},{role},{group}\n" for fold, given in ((1, SECOND), (0, FIRST)) for group, role in zip(GROUPS, given)
)


def lists(*given: list[str]) -> str:
    """The table in the layout of WORC, its columns as long as the longest."""
    names = [f"{fold}_{role}" for fold in range(len(given)) for role in ("train", "val", "test")]
    columns = [[g for g, r in zip(GROUPS, given[int(name[0])]) if r == name[2:]] for name in names]
    rows = [",".join([str(k)] + [column[k] if k < len(column) else "" for column in columns]) for k in range(10)]
    return "\n".join([",".join(["", *names]), *rows]) + "\n"


@pytest.mark.parametrize("text", [WIDE, LONG, lists(FIRST, SECOND)], ids=["wide", "long", "lists"])
def test_every_layout_gives_the_same_roles(folds: Folds, text: str) -> None:
    card, root = folds(text)
    raw = read(card, root)
    assert raw.official_roles is not None
    np.testing.assert_array_equal(raw.official_roles, [np.repeat(FIRST, 4), np.repeat(SECOND, 4)])
    prepared = prepare(card, root, (6, 5))
    for fold, expected in enumerate((FIRST, SECOND)):
        assert roles(prepared, fold).tolist() == np.repeat(expected, 4).tolist()
    with pytest.raises(InvalidInput, match="toy has no fold 2: expected folds 0 to 1"):
        roles(prepared, 2)


def test_groups_that_the_dataset_does_not_have_are_left_alone(folds: Folds) -> None:
    raw = read(*folds(WIDE + "p99,train,test\n"))
    assert raw.official_roles is not None
    assert raw.official_roles.shape == (2, 40)


def without_val(text: str) -> str:
    return text.replace("val", "train")


def test_a_stratified_part_of_what_trains_validates_where_the_table_has_none(folds: Folds) -> None:
    card, root = folds(without_val(WIDE))
    prepared = prepare(card, root, (6, 5))
    first = roles(prepared, 0)
    np.testing.assert_array_equal(first[:8], "test")
    np.testing.assert_array_equal(roles(prepared, 0), first)
    validating = first == "val"
    assert 4 <= validating.sum() <= 8  # one or two of eight groups
    assert set(prepared.groups[validating]).isdisjoint(prepared.groups[first == "train"])
    assert prepared.labels[validating].mean() == 0.5
    others = [roles(replace_seed(prepared, seed), 0).tolist() for seed in range(1, 5)]
    assert any(other != first.tolist() for other in others)
    assert all(other[:8] == ["test"] * 8 for other in others)


def replace_seed(prepared: Any, seed: int) -> Any:
    return replace(prepared, card=replace(prepared.card, split=replace(prepared.card.split, seed=seed)))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n_groups=st.integers(16, 60), n_classes=st.integers(2, 3))
def test_carving_never_touches_test_nor_cuts_a_group(seed: int, n_groups: int, n_classes: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 4, n_groups)
    groups = np.repeat([f"g{i:02d}" for i in range(n_groups)], sizes)
    labels = np.repeat(np.arange(n_groups) % n_classes, sizes)
    given = np.where(np.arange(n_groups) < n_classes, "test", "train")
    given[n_classes:][rng.random(n_groups - n_classes) < 0.1] = "test"
    table = np.repeat(given, sizes)[None]
    if min(len(set(groups[(table[0] == "train") & (labels == c)])) for c in range(n_classes)) < 5:
        return
    names = tuple(f"class{c}" for c in range(n_classes))
    result = assign_roles(labels, groups, table, SplitSpec("table", 1, seed, "x"), 0, class_names=names, name="toy")
    np.testing.assert_array_equal(result == "test", table[0] == "test")
    assert not set(groups[result == "val"]) & set(groups[result == "train"])
    assert set(labels[result == "val"]) == set(range(n_classes))


def test_too_few_training_groups_for_a_validation_part(folds: Folds) -> None:
    card, root = folds("patient,0\n" + "".join(f"{g},{'train' if g < 'p4' else 'test'}\n" for g in GROUPS), 1)
    prepared = prepare(card, root, (6, 5))
    with pytest.raises(
        InvalidData, match=r"at least 5 groups with class 'cold' in train, .* got 4; give val in the table"
    ):
        roles(prepared, 0)


def test_a_class_missing_from_a_role_is_refused() -> None:
    labels, groups = np.array([0, 1, 0, 1, 0]), np.arange(5).astype(str)
    table = np.array([["train", "train", "val", "val", "test"]])
    with pytest.raises(InvalidData, match="test has no sample of hot"):
        assign_roles(labels, groups, table, SplitSpec("table", 1, 0, "x"), 0, class_names=("cold", "hot"), name="toy")


def refused(card: Card, root: Path, kind: type[MedCurvesError] = InvalidData) -> list[str]:
    with pytest.raises(MedCurvesError) as caught:
        read(card, root)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return problems_of(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected a row per group, got none"),
        ("patient,0,1\n", "expected a row per group, got none"),
        (
            WIDE.replace("p3,val", "p3,holdout"),
            "line 5: expected train, val, test for group 'p3' in fold 0, got 'holdout'",
        ),
        (WIDE.replace("p3,val,train", "p3,val"), "line 5: expected 3 cells, got 2"),
        (
            WIDE.replace("p3,", "p33,"),
            "fold 0: expected a role for each of the 10 groups, got none for 1, such as 'p3'",
        ),
        (WIDE.replace("fold 2\n", "fold 2,age\n"), "line 2: expected 4 cells, got 3"),
        (LONG + "x,2,test,p0\n", "line 22: expected folds 0 to 1 as the card says, got '2'"),
        (LONG.replace("x,1,train,p0\n", ""), "fold 1: expected a role for each of the 10 groups, got none for 1"),
        (lists(FIRST, SECOND, SECOND), "expected folds 0 to 1 as the card says, got '2'"),
        (lists(FIRST), "fold 1: expected a role for each of the 10 groups, got none for 10, such as 'p0', 'p1', 'p2'"),
        ('a,"b', "expected a CSV in UTF-8"),
    ],
)
def test_tables_that_cannot_be_used(folds: Folds, text: str, reason: str) -> None:
    card, root = folds(text)
    problems = refused(card, root)
    assert reason in problems[0]
    assert problems[0].startswith(str(root / "toy/splits.csv"))


@pytest.mark.parametrize(
    "text", [WIDE + "p0,val,train\n", LONG + "x,0,train,p0\n", lists(FIRST, SECOND) + "9,p0,,,,,\n"]
)
def test_a_group_in_two_roles_of_a_fold_is_a_leak(folds: Folds, text: str) -> None:
    (problem,) = refused(*folds(text), LeakageError)
    assert "expected each group in one role, but in fold 0 'p0' is in test and " in problem


def test_another_table_is_noticed_and_changes_the_key(folds: Folds) -> None:
    card, root = folds(WIDE)
    other, _ = folds(LONG)
    assert "expected sha256" in refused(card, root)[0]
    assert (
        len({dataset_key(made, (6, 5)) for made in (card, other, replace(card, split=SplitSpec("table", 2, 1)))}) == 3
    )
    (root / "toy/splits.csv").unlink()
    assert "there is no file" in refused(other, root, InvalidInput)[0]


def test_a_second_file_is_only_the_split_table(folds: Folds) -> None:
    card, root = folds(WIDE)
    with pytest.raises(InvalidCard, match="format npz expects one file, got 2"):
        read(replace(card, split=SplitSpec("grouped", 5, 0)), root)
