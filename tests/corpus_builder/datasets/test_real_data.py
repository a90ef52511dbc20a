"""Every card against its real files. Needs MEDCURVES_DATA."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from corpus_builder.datasets import Card, listing, load_card, prepare, roles
from corpus_builder.datasets.cards import cards_root
from corpus_builder.datasets.formats import read
from corpus_builder.datasets.prepare import join_identical
from corpus_builder.datasets.raw import ROLES

CARDS = [card for card in (load_card(path) for path in sorted(cards_root().glob("*.md"))) if card.files]
SIZE = {2: (16, 16), 3: (8, 8, 8)}


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_card_is_true_and_every_fold_is_sound(card: Card, data_root: Path) -> None:
    prepared = prepare(card, data_root, SIZE[card.n_dims])  # checks sha256, shapes, counts, classes and groups
    assert prepared.images.shape == (card.n_samples, card.channels, *SIZE[card.n_dims])
    tested = np.zeros(card.n_samples, dtype=int)
    for fold in range(card.split.folds):
        result = roles(prepared, fold)
        tested += result == "test"
        sides = [set(prepared.groups[result == role].tolist()) for role in ROLES]
        assert sum(map(len, sides)) == len(set.union(*sides)) == len(set(prepared.groups.tolist()))
        for role in ROLES:
            assert set(prepared.labels[result == role].tolist()) == set(range(len(card.classes)))
        capped = roles(prepared, fold, {"train": 300, "val": 100})
        assert set(Counter(capped.tolist())) >= set(ROLES)
    assert card.split.kind == "official" or (tested == 1).all()


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("adrenalmnist3d", {"train": 1188, "val": 98, "test": 298}),
        ("pneumoniamnist", {"train": 4708, "val": 524, "test": 624}),
    ],
)
def test_official_counts(name: str, counts: dict[str, int], data_root: Path) -> None:
    official = read(load_card(name), data_root).official_roles
    assert official is not None
    assert Counter(official.tolist()) == counts


@pytest.mark.parametrize(("name", "groups"), [("iqoth_lung_ct", 100), ("head_ct_hemorrhage", 199), ("ham10000", 2006)])
def test_groups_after_joining_are_as_the_cards_tell(name: str, groups: int, data_root: Path) -> None:
    raw = read(load_card(name), data_root)
    assert len(np.unique(join_identical(raw.images, raw.groups))) == groups


def test_lidc_size_cue_is_as_the_card_tells(data_root: Path) -> None:
    from sklearn.metrics import roc_auc_score

    file = load_card("lidc_nodule3d").files[0]
    with np.load(data_root / file.path, allow_pickle=False) as archive:
        assert round(roc_auc_score(archive["labels"], archive["diameter_mm"]), 2) == 0.87


def test_all_files_are_listed_as_present(data_root: Path) -> None:
    present = {row["dataset"]: row["present"] for row in listing(data_root)}
    assert {present[card.name] for card in CARDS} == {"yes"}
