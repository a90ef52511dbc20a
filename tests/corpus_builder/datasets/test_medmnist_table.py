"""The table of MedMNIST's sets, tables of cards in general, and archives of every kind that the table describes."""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import assert_one_line_error
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_builder.datasets import card_table, dataset_key, examine, listing, load_card, prepare
from corpus_builder.datasets.archive import read_stacked
from corpus_builder.datasets.cards import Card, SplitSpec, cards_root, set_names
from corpus_builder.datasets.formats import read
from corpus_builder.datasets.listing import folded
from corpus_builder.plan import make_plan
from corpus_builder.study import Study
from metaquery.errors import InvalidCard, InvalidData, InvalidInput, UnknownName

TABLE = cards_root() / "medmnist.yaml"
MARKDOWN = {path.stem for path in cards_root().glob("*.md")}
SETS = card_table.set_of_each(TABLE)
# Samples and classes, written down apart from the table; ChestMNIST as the binary task that it is here.
PUBLISHED = {
    "pathmnist": (107_180, 9), "chestmnist": (112_120, 2), "dermamnist": (10_015, 7), "octmnist": (109_309, 4),
    "pneumoniamnist": (5_856, 2), "retinamnist": (1_600, 5), "breastmnist": (780, 2), "bloodmnist": (17_092, 8),
    "tissuemnist": (236_386, 8), "organamnist": (58_830, 11), "organcmnist": (23_583, 11), "organsmnist": (25_211, 11),
    "organmnist3d": (1_742, 11), "nodulemnist3d": (1_633, 2), "adrenalmnist3d": (1_584, 2),
    "fracturemnist3d": (1_370, 3), "vesselmnist3d": (1_908, 2), "synapsemnist3d": (1_759, 2),
}  # fmt: skip


def members(name: str) -> list[Card]:
    """The cards of a set, from the table and from Markdown, by size."""
    cards = [load_card(member) for member, of in set_names().items() if of == name]
    return sorted(cards, key=lambda card: math.prod(card.shape))


def test_no_dataset_is_defined_twice() -> None:
    assert not MARKDOWN & SETS.keys()
    names = [key for entry in yaml.safe_load(TABLE.read_text())["sets"].values() for key in entry["sizes"]]
    assert len(names) == len(set(names)) == len(SETS) == 58


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_set_has_every_published_size(name: str) -> None:
    cards = members(name)
    sides = (28, 64) if name.endswith("3d") else (28, 64, 128, 224)
    assert [card.shape for card in cards] == [(side,) * cards[0].n_dims for side in sides]
    assert [card.name for card in cards] == [name, *(f"{name}_{side}" for side in sides[1:])]
    assert {(card.n_samples, len(card.classes)) for card in cards} == {PUBLISHED[name]}
    assert len({card.family for card in cards}) == len({card.channels for card in cards}) == 1
    assert len({card.classes for card in cards}) == len({card.split for card in cards}) == 1
    assert len({card.title for card in cards}) == len(cards)


@pytest.mark.parametrize("name", SETS)
def test_entry_is_a_card_like_any_other(name: str) -> None:
    card = load_card(name)
    (file,) = card.files
    assert file.path == f"{SETS[name]}/{name}.npz"
    assert file.urls == (f"https://zenodo.org/records/10519652/files/{name}.npz?download=1",)
    assert load_card(TABLE / name) == load_card(f"{TABLE}/{name}") == card
    assert len(dataset_key(card, card.shape)) == 16


def test_checksums_and_keys_are_all_different() -> None:
    cards = [load_card(name) for name in SETS]
    assert len({card.files[0].checksum for card in cards}) == len(cards)
    assert len({dataset_key(card, (28,) * card.n_dims) for card in cards}) == len(cards)


def test_families_join_what_shares_images() -> None:
    def family(name: str) -> str:
        return load_card(name).family

    assert {family(name) for name in ("organamnist", "organcmnist_64", "organsmnist_224", "organmnist3d_64")} == {
        "lits"
    }
    assert family("nodulemnist3d") == family("lidc_nodule3d")
    assert family("dermamnist_128") == family("ham10000")
    shared = {family(name) for name in MARKDOWN} & {family(name) for name in SETS}
    assert shared == {"lidc", "ham10000", "medmnist-pneumonia", "medmnist-adrenal"}
    joined = {name for name, of in SETS.items() if family(name) == "lits"}
    alone = {of for name, of in SETS.items() if name not in joined}
    assert len({family(name) for name in SETS if name not in joined}) == len(alone)


def test_label_rule_decides_the_key() -> None:
    card = load_card("chestmnist")
    assert (card.label_rule, card.classes) == ("any", ("no finding", "finding"))
    assert dataset_key(card, (28, 28)) != dataset_key(replace(card, label_rule=""), (28, 28))


def test_study_and_plan_need_no_file() -> None:
    document = yaml.safe_load((cards_root().parent / "studies" / "mini.yaml").read_text())
    document["datasets"] = ["pathmnist_64", "fracturemnist3d"]
    plan = make_plan(Study.from_document(document))
    assert {trial.spec.dataset for trial in plan.trials} == {"pathmnist_64", "fracturemnist3d"}


def test_missing_file_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=f"corpus-builder datasets fetch octmnist_64 --data-root {tmp_path}"):
        prepare(load_card("octmnist_64"), tmp_path, (64, 64))
    with pytest.raises(InvalidInput, match="datasets fetch octmnist_64 --data-root DIR"):
        prepare(load_card("octmnist_64"), None, (64, 64))


def test_names_that_no_table_has() -> None:
    with pytest.raises(UnknownName, match="did you mean octmnist_64"):
        load_card("octmnist_63")
    for path in (TABLE / "octmnist_63", TABLE / "..", Path("/gone/medmnist.yaml/octmnist")):
        with pytest.raises(UnknownName, match="no data card at"):
            load_card(path)


# Tables of cards in general.


@pytest.fixture
def table() -> dict[str, Any]:
    entry = yaml.safe_load(TABLE.read_text())
    return entry | {"sets": {"octmnist": entry["sets"]["octmnist"]}}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.pop("urls"), "top level: 'urls' is a required property"),
        (lambda t: t["sets"]["octmnist"].pop("sizes"), "sets.octmnist: 'sizes' is a required property"),
        (lambda t: t["sets"]["octmnist"]["sizes"]["octmnist"].pop("md5"), "'md5' is a required property"),
        (lambda t: t["sets"]["octmnist"].update(split_counts={"train": "many"}), "'many' is not of type 'integer'"),
        (lambda t: t["sets"]["octmnist"].pop("family"), "medcurves: 'family' is a required property"),
        (lambda t: t["sets"]["octmnist"].update(colour="grey"), "medcurves: Additional properties"),
        (
            lambda t: t["sets"]["octmnist"].update(split_counts={"train": 1}),
            "medcurves.split_counts: 'val' is a required",
        ),
        (lambda t: t["sets"]["octmnist"].update(class_counts={"normal": 1}), "class_counts has ['normal'] but the"),
        (
            lambda t: t.update(shared={**t["shared"], "split": {"kind": "grouped", "folds": 3, "seed": 0}}),
            "of an official",
        ),
        (lambda t: t["sets"]["octmnist"].update(label_rule="any"), "makes two classes, but there are 4"),
        (lambda t: t.update(urls=["file:///{name}"]), "medcurves.files.0.urls.0: 'file:///octmnist' does not match"),
        (lambda t: t.update(path="../{name}"), "medcurves.files.0.path: '../octmnist' does not match"),
        (
            lambda t: t["shared"].update(format="npz", label_rule="any", keys={"images": "a", "labels": "b"}),
            "format npz does not use label_rule",
        ),
    ],
)
def test_broken_table(tmp_path: Path, table: dict[str, Any], change: Callable[[Any], Any], reason: str) -> None:
    change(table)
    refused(tmp_path / "cards.yaml", yaml.safe_dump(table), reason)


@pytest.mark.parametrize(
    ("text", "reason"), [("- a list", "must be a mapping, got list"), ("{", "is not YAML"), ("", "got NoneType")]
)
def test_what_is_no_table(tmp_path: Path, text: str, reason: str) -> None:
    refused(tmp_path / "cards.yaml", text, reason)


def refused(path: Path, text: str, reason: str) -> None:
    path.write_text(text)
    with pytest.raises(InvalidCard) as caught:
        load_card(path / "octmnist")
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_card_without_class_counts_needs_split_counts(tmp_path: Path, table: dict[str, Any]) -> None:
    front = card_table.front_matter(TABLE / "octmnist")
    del front["medcurves"]["split_counts"]
    path = tmp_path / "octmnist.md"
    path.write_text(f"---\n{yaml.safe_dump(front)}---\n")
    with pytest.raises(InvalidCard, match="medcurves: 'class_counts' is a required property"):
        load_card(path)
    assert "'class_counts' is a required property" in " ".join(examine(path, tmp_path).problems)


# Archives.


def archive(card: Card, root: Path, counts: tuple[int, int, int] = (24, 6, 10), **changes: Any) -> Card:
    """Write an archive of the layout of `card` with fewer and smaller samples; the card of that file."""
    rng = np.random.default_rng(0)
    shape = (*(6,) * card.n_dims, *((card.channels,) if card.channels > 1 else ()))
    arrays: dict[str, Any] = {}
    for role, n in zip(("train", "val", "test"), counts, strict=True):
        arrays[f"{role}_images"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        if card.label_rule:
            arrays[f"{role}_labels"] = (np.arange(n * 14).reshape(n, 14) % 3 == 0) * (np.arange(n) % 2)[:, None]
        else:
            arrays[f"{role}_labels"] = np.arange(n)[:, None] % len(card.classes)
        arrays[f"{role}_labels"] = arrays[f"{role}_labels"].astype(np.uint8)
    path = root / card.files[0].path
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **(arrays | changes))
    file = replace(card.files[0], md5=hashlib.md5(path.read_bytes()).hexdigest())
    n = sum(counts)
    return replace(
        card, files=(file,), shape=(6,) * card.n_dims, n_samples=n, n_groups=n, class_counts=(),
        split_counts=dict(zip(("train", "val", "test"), counts, strict=True)),
    )  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_set_is_read(name: str, tmp_path: Path) -> None:
    card = archive(members(name)[-1], tmp_path)
    prepared = prepare(card, tmp_path, (8,) * card.n_dims)
    assert prepared.images.shape == (40, card.channels, *(8,) * card.n_dims)
    with np.load(tmp_path / card.files[0].path) as arrays:
        native = prepare(card, tmp_path, card.shape).images
        expected = arrays["val_images"] if card.channels > 1 else arrays["val_images"][..., None]
        np.testing.assert_array_equal(np.moveaxis(native[24:30], 1, -1), expected)


def test_any_finding_is_a_finding(tmp_path: Path) -> None:
    labels = np.zeros((6, 14), dtype=np.uint8)
    labels[1, 13] = labels[2, 0] = labels[2, 5] = 1
    raw = read(archive(load_card("chestmnist"), tmp_path, val_labels=labels), tmp_path)
    assert raw.labels[24:30].tolist() == [0, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("labels", [np.zeros((6, 1), np.uint8), np.full((6, 14), 2, np.uint8), np.zeros((6, 14))])
def test_labels_that_the_rule_does_not_fit(tmp_path: Path, labels: np.ndarray[Any, Any]) -> None:
    card = archive(load_card("chestmnist"), tmp_path, val_labels=labels)
    with pytest.raises(InvalidData, match="several labels of 0 or 1 per sample"):
        read(card, tmp_path)


def test_several_labels_without_a_rule_are_refused(tmp_path: Path) -> None:
    card = archive(load_card("chestmnist"), tmp_path)
    with pytest.raises(InvalidData, match=r"one whole number per sample as label, got uint8 of shape \(24, 14\)"):
        read(replace(card, label_rule=""), tmp_path)


def test_samples_of_the_roles_and_their_shape_are_checked(tmp_path: Path) -> None:
    card = archive(load_card("octmnist"), tmp_path)
    other = replace(card, split_counts={"train": 25, "val": 5, "test": 10}, shape=(28, 28))
    problems = read_problems(other, tmp_path)
    assert len(problems) == 2
    assert (
        "samples per role {'train': 25, 'val': 5, 'test': 10}, got {'train': 24, 'val': 6, 'test': 10}" in problems[0]
    )
    assert "shape of a sample (28, 28), got (6, 6)" in problems[1]


def read_problems(card: Card, root: Path) -> list[str]:
    with pytest.raises(InvalidData) as caught:
        read(card, root)
    return list(caught.value.__notes__)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    sample=st.lists(st.integers(1, 4), max_size=3),
    fortran=st.booleans(),
    block=st.integers(1, 40),
)
def test_stacking_is_concatenation(
    tmp_path_factory: Any, lengths: list[int], sample: list[int], fortran: bool, block: int
) -> None:
    path = tmp_path_factory.mktemp("stacked") / "parts.npz"
    rng = np.random.default_rng(len(lengths))
    parts = [rng.integers(0, 256, (n, *sample), dtype=np.uint8) for n in lengths]
    order = np.asfortranarray if fortran else np.ascontiguousarray
    np.savez_compressed(path, **{f"p{i}": order(part) for i, part in enumerate(parts)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("corpus_builder.datasets.archive._BLOCK_BYTES", block)
        stacked, found = read_stacked(path, [f"p{i}" for i in range(len(parts))])
    np.testing.assert_array_equal(stacked, np.concatenate(parts))
    assert found == lengths


def test_archive_that_is_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = archive(load_card("octmnist"), tmp_path)
    read(card, tmp_path)
    monkeypatch.setattr("corpus_builder.datasets.archive.os.sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 1439}.get)
    with pytest.raises(
        InvalidInput, match=r"take 0\.0 GB of memory and this machine has 0\.0 GB; use a dataset of smaller"
    ):
        read(card, tmp_path)


def test_samples_that_are_not_bytes(tmp_path: Path) -> None:
    card = archive(load_card("octmnist"), tmp_path, val_images=np.zeros((6, 6, 6)))
    with pytest.raises(InvalidData, match=r"samples of type uint8, got \{'val_images': 'float64'\}"):
        read(card, tmp_path)


@pytest.mark.parametrize("change", [lambda body: body[:-5], lambda body: body + b"12345"])
def test_member_that_is_shorter_or_longer_than_its_header_says(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    card = archive(load_card("octmnist"), tmp_path)
    path = tmp_path / card.files[0].path
    with zipfile.ZipFile(path) as old:
        contents = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, body in contents.items():
            new.writestr(name, change(body) if name == "test_images.npy" else body)
    file = replace(card.files[0], md5=hashlib.md5(path.read_bytes()).hexdigest())
    with pytest.raises(InvalidData, match="cannot be read"):
        read(replace(card, files=(file,)), tmp_path)


# The listing.


def test_listing_has_one_line_per_set_or_one_per_size(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "octmnist").mkdir()
    (tmp_path / "octmnist" / "octmnist_64.npz").touch()
    rows = listing(tmp_path)
    assert [row["dataset"] for row in rows if row["dataset"].startswith("path")] == [
        "pathmnist", "pathmnist_64", "pathmnist_128", "pathmnist_224",
    ]  # fmt: skip
    short = {row["dataset"]: row for row in folded(rows)}
    assert list(short) == sorted(MARKDOWN | set(SETS.values()))
    assert short["octmnist"]["shape"] == "28² 64² 128² 224²"
    assert short["octmnist"]["present"] == "fetch 28² 128² 224², yes 64²"
    assert short["adrenalmnist3d"] | {"present": "", "licence": ""} == {
        "dataset": "adrenalmnist3d", "modality": "CT (binary organ shape)", "shape": "28³ 64³", "n": 1584,
        "classes": 2, "groups": 1584, "licence": "", "family": "medmnist-adrenal", "present": "",
    }  # fmt: skip
    assert short["pneumoniamnist"]["present"] == "no 28², fetch 64² 128² 224²"
    shown = command("corpus-builder", "datasets").stdout
    assert shown.count("retinamnist") == 1
    assert command("corpus-builder", "datasets", "--all").stdout.count("retinamnist") == 4


def test_command_checks_an_entry(command: Callable[..., Any], tmp_path: Path) -> None:
    done = command("corpus-builder", "datasets", "check", "vesselmnist3d", "--data-root", tmp_path)
    assert_one_line_error(done, "vesselmnist3d.npz", "corpus-builder datasets fetch vesselmnist3d")


# The real files.


def test_official_checksums_are_those_of_the_real_files(data_root: Path) -> None:
    """adrenalmnist3d lies there as published; pneumoniamnist was put together from two copies, as its card says."""
    published = {"adrenalmnist3d": "bbd3c5a5576322bc4cdfea780653b1ce"}  # in info.py of medmnist 3.0.2
    for name in ("adrenalmnist3d", "adrenalmnist3d_64"):
        card = load_card(name)
        found = hashlib.md5((data_root / card.files[0].path).read_bytes()).hexdigest()
        assert found == (card.files[0].md5 or published[name])
    assert not load_card("pneumoniamnist").files[0].urls


def test_both_sizes_hold_the_same_labels(data_root: Path) -> None:
    small, large = (read(load_card(name), data_root) for name in ("adrenalmnist3d", "adrenalmnist3d_64"))
    np.testing.assert_array_equal(small.labels, large.labels)
    assert load_card("adrenalmnist3d_64").class_counts == load_card("adrenalmnist3d").class_counts


def test_split_kind_is_official_everywhere() -> None:
    assert {load_card(name).split for name in SETS} == {SplitSpec("official")}
