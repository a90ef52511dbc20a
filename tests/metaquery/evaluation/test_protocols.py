"""Which datasets train, validate and test, and the guard between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaquery.errors import InvalidInput, LeakageError, UnknownName
from metaquery.evaluation.protocols import Fold, Protocol, Traits, check_leakage, folds, protocol_names
from metaquery.types import Budget

DATASETS = {
    "liver_ct": Traits("chaos", "CT"),
    "liver_mr": Traits("chaos", "MRI"),
    "skin": Traits("isic", "dermatoscopy"),
    "chest_ct": Traits("lidc", "CT"),
    "xray": Traits("chest", "X-ray"),
}


def planned(name: str, *arguments: Any, **options: Any) -> list[Fold]:
    return folds(Protocol.load(name), DATASETS, *arguments, **options)


def own(**scheme: Any) -> Protocol:
    return Protocol.from_document({"name": "own", "description": "mine", "folds": scheme})


def test_lodo_leaves_out_the_family_of_the_test_dataset() -> None:
    found = {fold.test: fold.train for fold in planned("lodo")}
    assert found == {
        "chest_ct": ("liver_ct", "liver_mr", "skin", "xray"),
        "liver_ct": ("chest_ct", "skin", "xray"),
        "liver_mr": ("chest_ct", "skin", "xray"),
        "skin": ("chest_ct", "liver_ct", "liver_mr", "xray"),
        "xray": ("chest_ct", "liver_ct", "liver_mr", "skin"),
    }
    assert list(found) == sorted(DATASETS)


def test_a_family_is_left_out_as_a_whole() -> None:
    found = planned("leave_one_family_out")
    assert [(fold.group, fold.test) for fold in found] == [
        ("chaos", "liver_ct"),
        ("chaos", "liver_mr"),
        ("chest", "xray"),
        ("isic", "skin"),
        ("lidc", "chest_ct"),
    ]
    assert {fold.train for fold in found if fold.group == "chaos"} == {("chest_ct", "skin", "xray")}


def test_a_modality_is_left_out_with_the_families_of_its_datasets() -> None:
    found = {fold.test: fold for fold in planned("leave_one_modality_out")}
    assert found["liver_ct"].train == ("skin", "xray")  # neither the other CT nor its own family's MRI
    assert found["chest_ct"].train == ("liver_mr", "skin", "xray")
    assert found["liver_ct"].group == "CT"


def test_a_modality_must_be_known_and_not_the_only_one() -> None:
    rules = Protocol.load("leave_one_modality_out")
    with pytest.raises(InvalidInput, match="needs the modality of every dataset, which the corpus does not have for b"):
        folds(rules, {"a": Traits("f", "CT"), "b": Traits("g")})
    with pytest.raises(InvalidInput, match="needs datasets of two modalities, all of the corpus are of CT"):
        folds(rules, {"a": Traits("f", "CT"), "b": Traits("g", "CT")})


def test_groups_are_dealt_by_the_stated_rule_and_rotated() -> None:
    # chaos has two datasets and goes first; then chest, isic, lidc by name, each to the emptiest of the groups
    found = {fold.test: fold for fold in folds(own(scheme="rotation", groups=3), DATASETS)}
    assert {test: fold.group for test, fold in found.items()} == {
        "liver_ct": "group 1",
        "liver_mr": "group 1",
        "xray": "group 2",
        "chest_ct": "group 2",
        "skin": "group 3",
    }
    assert found["liver_ct"] == Fold("liver_ct", ("skin",), ("chest_ct", "xray"), "group 1")
    assert found["xray"] == Fold("xray", ("liver_ct", "liver_mr"), ("skin",), "group 2")
    assert found["skin"] == Fold("skin", ("chest_ct", "xray"), ("liver_ct", "liver_mr"), "group 3")
    with pytest.raises(InvalidInput, match="deals families to 5 groups, the corpus has 4"):
        planned("quicktune")


def test_groups_may_be_named_but_not_split_a_family() -> None:
    found = folds(own(scheme="rotation", groups=[["skin"], ["xray"], ["chest_ct"]]), DATASETS)
    assert [(fold.test, fold.train, fold.validation) for fold in found] == [
        ("skin", ("chest_ct",), ("xray",)),
        ("xray", ("skin",), ("chest_ct",)),
        ("chest_ct", ("xray",), ("skin",)),
    ]
    with pytest.raises(LeakageError) as caught:
        folds(own(scheme="rotation", groups=[["skin", "liver_ct"], ["liver_mr"], ["xray"]]), DATASETS)
    assert "liver_mr (validation) and liver_ct (test) of family chaos" in str(caught.value)
    with pytest.raises(InvalidInput, match="each once, got skin, xray, skin"):
        folds(own(scheme="rotation", groups=[["skin"], ["xray"], ["skin"]]), DATASETS)


def test_fixed_lists_stand_in_the_protocol_or_come_from_outside() -> None:
    listed = own(scheme="fixed", train=["xray"], validation=["chest_ct"], test=["skin", "liver_ct"])
    expected = [Fold("skin", ("xray",), ("chest_ct",), "test"), Fold("liver_ct", ("xray",), ("chest_ct",), "test")]
    assert folds(listed, DATASETS) == expected
    assert planned("fixed", ["skin", "liver_ct"], ["xray"], ["chest_ct"]) == expected
    assert folds(listed, DATASETS, ["liver_ct"]) == expected[1:]
    with pytest.raises(InvalidInput, match="tests on skin, liver_ct, not on xray"):
        folds(listed, DATASETS, ["xray"])
    with pytest.raises(InvalidInput, match="needs test datasets"):
        planned("fixed", train=["xray"])
    with pytest.raises(InvalidInput, match="needs training datasets"):
        planned("fixed", ["skin"])


def test_single_trains_on_nothing() -> None:
    assert [(f.test, f.train) for f in planned("single", ["xray", "skin"])] == [("xray", ()), ("skin", ())]
    for side in ("train", "validation"):
        with pytest.raises(InvalidInput, match="single trains on nothing"):
            planned("single", **{side: ["skin"]})


def test_chosen_datasets_take_the_place_of_those_of_the_protocol() -> None:
    (found,) = planned("lodo", ["skin"], ["xray", "liver_mr"])
    assert (found.train, found.validation) == (("xray", "liver_mr"), ())
    (found,) = planned("lodo", ["skin"], validation=["liver_mr"])  # its family no longer trains
    assert (found.train, found.validation) == (("chest_ct", "xray"), ("liver_mr",))


def test_a_family_on_two_sides_is_refused_with_every_pair() -> None:
    with pytest.raises(LeakageError) as caught:
        planned("lodo", ["liver_ct", "skin"], ["liver_mr", "skin", "xray"], ["xray"])
    message = str(caught.value)
    assert "liver_mr (training) and liver_ct (test) of family chaos" in message
    assert "skin (training) and skin (test) of family isic" in message
    assert message.count("xray (training) and xray (validation) of family chest") == 1
    assert "xray (training) and skin" not in message


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("lodo", ["skim"]), UnknownName, "unknown dataset 'skim': did you mean skin"),
        (("lodo", ["skin"], ["xrays"]), UnknownName, "unknown dataset 'xrays'"),
        (("lodo", []), InvalidInput, "at least one dataset, each once, got none"),
        (("lodo", ["skin", "skin"]), InvalidInput, "each once, got skin, skin"),
        (("kfold",), UnknownName, "unknown protocol 'kfold': expected one of: fixed, .*; give one of them or the path"),
    ],
)
def test_bad_requests(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        planned(*arguments)


def test_a_protocol_of_ones_own_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\ndescription: two lists\nfolds: {scheme: fixed, train: [xray], test: [skin]}\n"
        "defaults: {budget: {time: 1.5h, trials: 9}, seeds: 4, judged: validation, metric: accuracy}\n"
    )
    found = Protocol.load(path)
    assert found == Protocol.load(str(path))
    assert found.defaults.budget == Budget(seconds=5400, trials=9)
    assert (found.defaults.seeds, found.defaults.judged, found.defaults.metric) == (4, "validation", "accuracy")
    assert found.defaults.charging is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "must hold a mapping"),
        ("name: [", "is not a YAML file"),
        ("name: a\ndescription: b\nfolds: {scheme: kfold}", "does not follow protocol.schema.json: folds"),
        ("name: a\ndescription: b\nfolds: {scheme: single}\ndefaults: {metric: auroc}", "unknown metric 'auroc'"),
        ("name: a\ndescription: b\nfolds: {scheme: single}\ndefaults: {budget: {time: 1 year}}", "is not a duration"),
        ("name: a\ndescription: b\nfolds: {scheme: single}\nseeds: 3", "does not follow protocol.schema.json"),
    ],
)
def test_a_file_that_is_no_protocol_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=message):
        Protocol.load(path)


def test_every_bundled_protocol_is_named_like_its_file() -> None:
    assert [Protocol.load(name).name for name in protocol_names()] == protocol_names()


_NAMES = st.text("abcdefgh", min_size=1, max_size=3)
_TRAITS = st.builds(Traits, st.sampled_from("fghijk"), st.sampled_from(["CT", "MRI"]))


@given(st.dictionaries(_NAMES, _TRAITS, min_size=1), st.sampled_from(protocol_names()))
def test_no_protocol_leaks_and_each_tests_everything_once(datasets: dict[str, Traits], name: str) -> None:
    try:
        found = folds(Protocol.load(name), datasets)
    except InvalidInput:  # fixed without lists, fewer families than groups, a single modality
        return
    check_leakage(found, {dataset: item.family for dataset, item in datasets.items()})
    assert sorted(fold.test for fold in found) == sorted(datasets)
