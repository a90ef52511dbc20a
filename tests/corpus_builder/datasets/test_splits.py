from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from corpus_builder.datasets import card_names, load_card, prepare, roles, split_rows
from corpus_builder.datasets.cards import Card, SplitSpec
from corpus_builder.datasets.raw import ROLES
from corpus_builder.datasets.splits import assign_roles
from metaquery.errors import InvalidData, InvalidInput, LeakageError
from metaquery.schema import table
from metaquery.schema.tables import from_rows

GROUPED = [name for name in card_names() if load_card(name).split.kind == "grouped"]


def structure(card: Card, rng: np.random.Generator, *, mixed: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Labels and groups with the counts of `card`: groups of one class, or of several where `mixed`."""
    labels = rng.permutation(np.repeat(np.arange(len(card.classes)), card.class_counts))
    if mixed:
        extra = rng.integers(card.n_groups, size=card.n_samples - card.n_groups)
        return labels, rng.permutation(np.concatenate([np.arange(card.n_groups), extra])).astype(str)
    shares = np.maximum(
        card.split.folds, np.floor(card.n_groups * np.array(card.class_counts) / card.n_samples)
    ).astype(int)
    shares = np.minimum(shares, card.class_counts)
    shares[np.argmax(shares)] += card.n_groups - shares.sum()
    groups = np.empty(card.n_samples, dtype="U16")
    for label, n_groups in enumerate(shares):
        members = np.flatnonzero(labels == label)
        extra = rng.integers(n_groups, size=len(members) - n_groups)
        groups[members] = [f"{label}-{g}" for g in np.concatenate([np.arange(n_groups), extra])]
    return labels, groups


def check(result: NDArray[Any], labels: NDArray[Any], groups: NDArray[Any], n_classes: int) -> None:
    for role in ROLES:
        assert set(labels[result == role].tolist()) == set(range(n_classes))
    sides = [set(groups[result == role].tolist()) for role in ROLES]
    assert sum(map(len, sides)) == len(set.union(*sides))


@pytest.mark.parametrize("name", GROUPED)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), mixed=st.booleans(), capped=st.booleans())
def test_grouped_splits_never_share_a_group_and_every_role_has_every_class(
    name: str, seed: int, mixed: bool, capped: bool
) -> None:
    card = load_card(name)
    rng = np.random.default_rng(seed)
    labels, groups = structure(card, rng, mixed=mixed)
    assert len(set(groups.tolist())) == card.n_groups
    split = SplitSpec("grouped", card.split.folds, seed % 1000)
    fold = int(rng.integers(split.folds))
    caps = {"train": int(rng.integers(50, 500)), "val": 60, "test": None} if capped else None
    result = assign_roles(labels, groups, None, split, fold, caps, class_names=card.classes, name=name)
    check(result, labels, groups, len(card.classes))
    assert capped or (result != "").all()


def draw(
    labels: NDArray[Any], groups: NDArray[Any], fold: int = 0, caps: dict[str, int | None] | None = None, **options: Any
) -> NDArray[Any]:
    split = options.pop("split", SplitSpec("grouped", 5, 0))
    names = tuple(f"class{i}" for i in range(int(labels.max()) + 1))
    return assign_roles(labels, groups, options.pop("official", None), split, fold, caps, class_names=names, name="toy")


@pytest.fixture
def many() -> tuple[NDArray[Any], NDArray[Any]]:
    """300 samples in 100 groups of 3, two classes, a quarter of the groups of class 1."""
    groups = np.repeat([f"g{i:03d}" for i in range(100)], 3)
    return np.repeat(np.arange(100) % 4 == 0, 3).astype(np.int64), groups


def test_every_group_is_tested_once_and_validates_once(many: tuple[NDArray[Any], NDArray[Any]]) -> None:
    folds = np.stack([draw(*many, fold) for fold in range(5)])
    assert ((folds == "test").sum(0) == 1).all()
    assert ((folds == "val").sum(0) == 1).all()
    np.testing.assert_array_equal(folds[0] == "val", folds[1] == "test")


def test_folds_are_stratified(many: tuple[NDArray[Any], NDArray[Any]]) -> None:
    result = draw(*many)
    for role in ROLES:
        assert many[0][result == role].mean() == pytest.approx(0.25, abs=0.01)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), cap=st.integers(1, 200), n_classes=st.integers(2, 4))
def test_a_cap_keeps_whole_groups_and_every_class_and_is_only_exceeded_for_a_class(
    seed: int, cap: int, n_classes: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.repeat(np.arange(n_classes), 20), rng.integers(n_classes, size=250)])
    groups = np.concatenate([np.arange(20 * n_classes), rng.integers(20 * n_classes, size=250)]).astype(str)
    free = draw(labels, groups, split=SplitSpec("grouped", 3, seed))
    result = draw(labels, groups, caps={"train": cap}, split=SplitSpec("grouped", 3, seed))
    kept = result == "train"
    assert set(groups[kept].tolist()).isdisjoint(groups[(free == "train") & ~kept].tolist())
    assert set(labels[kept].tolist()) == set(range(n_classes))
    np.testing.assert_array_equal(result[free != "train"], free[free != "train"])
    if kept.sum() > cap:  # then only for the sake of the classes
        assert len(set(groups[kept].tolist())) <= n_classes
    else:
        room = cap - kept.sum()
        left = groups[(free == "train") & ~kept]
        assert not len(left) or np.unique(left, return_counts=True)[1].min() > room


def test_a_cap_is_stratified_deterministic_and_of_its_role_alone(many: tuple[NDArray[Any], NDArray[Any]]) -> None:
    result = draw(*many, caps={"train": 60, "val": None})
    np.testing.assert_array_equal(result, draw(*many, caps={"train": 60}))
    assert (result == "train").sum() == 60
    assert many[0][result == "train"].mean() == 0.25
    assert (result == "val").sum() == (draw(*many) == "val").sum()
    assert (draw(*many, fold=1, caps={"train": 60}) != result).any()


def test_official_roles_are_kept_and_have_one_fold() -> None:
    labels, groups = np.tile([0, 1], 6), np.arange(12).astype(str)
    official = np.repeat(ROLES, 4)
    split = SplitSpec("official")
    np.testing.assert_array_equal(draw(labels, groups, official=official, split=split), official)
    with pytest.raises(InvalidInput, match="toy has no fold 1: expected only fold 0, as its split is official"):
        draw(labels, groups, 1, official=official, split=split)
    with pytest.raises(InvalidData, match="expected official roles in the data, got none"):
        draw(labels, groups, split=split)


def test_official_split_through_a_group_is_a_leak() -> None:
    labels, groups = np.tile([0, 1], 6), np.array(["a"] * 5 + list("bcdefgh"))
    with pytest.raises(LeakageError, match=r"toy, fold 0: .*'a' is in (train and val|val and train)"):
        draw(labels, groups, official=np.repeat(ROLES, 4), split=SplitSpec("official"))


def test_a_class_missing_from_a_role_is_named() -> None:
    labels = np.array([0, 1, 0, 1, 0, 0, 0, 1])
    official = np.repeat(ROLES, [4, 2, 2])
    with pytest.raises(InvalidData, match="val has no sample of class1"):
        draw(labels, np.arange(8).astype(str), official=official, split=SplitSpec("official"))


def test_too_few_groups_of_a_class() -> None:
    labels, groups = np.repeat([0, 1], 20), np.repeat(np.arange(12), [2] * 10 + [10, 10]).astype(str)
    with pytest.raises(InvalidData, match="at least 5 groups with class 'class1', one per fold, got 2"):
        draw(labels, groups)


@pytest.mark.parametrize("fold", [-1, 5])
def test_unknown_fold(many: tuple[NDArray[Any], NDArray[Any]], fold: int) -> None:
    with pytest.raises(InvalidInput, match=f"toy has no fold {fold}: expected folds 0 to 4"):
        draw(*many, fold)


@pytest.mark.parametrize("caps", [{"train": 0}, {"holdout": 5}])
def test_unusable_cap(many: tuple[NDArray[Any], NDArray[Any]], caps: dict[str, int | None]) -> None:
    with pytest.raises(InvalidInput, match=f"on role '{next(iter(caps))}' is not usable"):
        draw(*many, caps=caps)


def test_split_rows_are_rows_of_the_table(arrays: dict[str, Any], save: Any) -> None:
    prepared = prepare(*save(arrays), (6, 5))
    given_roles = roles(prepared, 2, {"train": 8})
    rows = split_rows(prepared, 2, given_roles)
    assert len(from_rows(table("splits").arrow_schema(), rows, what="splits")) == (given_roles != "").sum() < 40
    for row in rows:
        sample = row["sample"]
        assert row["dataset"] == "toy"
        assert row["fold"] == 2
        assert row["role"] == given_roles[sample]
        assert row["label"] == arrays["labels"][sample]
        assert row["group"] == arrays["group_ids"][sample]
