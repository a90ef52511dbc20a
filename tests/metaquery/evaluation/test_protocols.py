"""Which datasets train and which test, and the guard between them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaquery.errors import InvalidInput, LeakageError, UnknownName
from metaquery.evaluation.protocols import Fold, check_leakage, folds

FAMILIES = {"liver_ct": "chaos", "liver_mr": "chaos", "skin": "isic", "xray": "chest"}


def test_lodo_leaves_out_the_family_of_the_test_dataset() -> None:
    assert folds("lodo", FAMILIES) == [
        Fold("liver_ct", ("skin", "xray")),
        Fold("liver_mr", ("skin", "xray")),
        Fold("skin", ("liver_ct", "liver_mr", "xray")),
        Fold("xray", ("liver_ct", "liver_mr", "skin")),
    ]
    assert folds("lodo", FAMILIES, ["skin"]) == [Fold("skin", ("liver_ct", "liver_mr", "xray"))]


def test_single_trains_on_nothing() -> None:
    assert folds("single", FAMILIES, ["xray", "skin"]) == [Fold("xray", ()), Fold("skin", ())]
    with pytest.raises(InvalidInput, match="single trains on nothing"):
        folds("single", FAMILIES, train=["skin"])


def test_chosen_training_datasets_are_used_as_they_are() -> None:
    assert folds("lodo", FAMILIES, ["skin"], ["xray", "liver_mr"]) == [Fold("skin", ("xray", "liver_mr"))]


def test_a_family_on_both_sides_is_refused_with_every_pair() -> None:
    with pytest.raises(LeakageError) as caught:
        folds("lodo", FAMILIES, ["liver_ct", "skin"], ["liver_mr", "skin", "xray"])
    assert "liver_mr and liver_ct (family chaos); skin and skin (family isic)" in str(caught.value)
    assert "xray and" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("kfold", FAMILIES), UnknownName, "unknown protocol 'kfold': expected one of: lodo, single"),
        (("lodo", FAMILIES, ["skim"]), UnknownName, "unknown dataset 'skim': did you mean skin"),
        (("lodo", FAMILIES, ["skin"], ["xrays"]), UnknownName, "unknown dataset 'xrays'"),
        (("lodo", FAMILIES, []), InvalidInput, "at least one dataset, each once, got none"),
        (("lodo", FAMILIES, ["skin", "skin"]), InvalidInput, "each once, got skin, skin"),
    ],
)
def test_bad_requests(arguments: tuple[object, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        folds(*arguments)  # type: ignore[arg-type]


@given(st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), st.sampled_from(["f", "g", "h"]), min_size=1))
def test_lodo_never_leaks(families: dict[str, str]) -> None:
    found = folds("lodo", families)
    check_leakage(found, families)
    assert [fold.test for fold in found] == sorted(families)
    for fold in found:
        left_out = set(families) - set(fold.train)
        assert {families[name] for name in left_out} == {families[fold.test]}
