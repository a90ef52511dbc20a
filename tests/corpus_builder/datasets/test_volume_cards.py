"""Cards of volumes: what their block means, and what it cannot say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus_builder.datasets import examine, load_card
from corpus_builder.datasets.cards import VolumeSpec, cards_root, read_front_matter
from metaquery.errors import InvalidCard

BLOCK = {
    "name": "toy", "classes": ["cold", "hot"], "class_counts": {"cold": 1, "hot": 1}, "n_dims": 3, "channels": 2,
    "n_samples": 2, "n_groups": 2, "format": "nifti_table", "size": [4, 5, 6],
    "keys": {"images": ["t1", "t2"], "labels": "label", "masks": "seg", "groups": "id"},
    "volume": {"spacing": [1, 1, 1], "window": [0, 255], "margin": 1},
    "split": {"kind": "grouped", "folds": 3, "seed": 0},
    "files": [{"path": "toy.csv", "sha256": "0" * 64}],
}  # fmt: skip
FOLDS = {"kind": "table", "folds": 2, "seed": 0, "file": "toy/splits.csv"}


def card_file(tmp_path: Path, changes: dict[str, Any]) -> Path:
    front = dict(read_front_matter(cards_root() / "head_ct_hemorrhage.md"))
    block = {key: value for key, value in front["medcurves"].items() if key != "shape"} | BLOCK | changes
    path = tmp_path / "toy.md"
    path.write_text(f"---\n{yaml.safe_dump(front | {'medcurves': block})}---\n")
    return path


def test_block_of_a_card_becomes_its_rules(tmp_path: Path) -> None:
    changes = {"volume": {"spacing": [3, 1, 1.5], "window": [[0, 9], [-5, 5]], "margin": 0, "mask_label": 2}}
    card = load_card(card_file(tmp_path, changes))
    assert card.volume == VolumeSpec((3, 1, 1.5), ((0, 9), (-5, 5)), None, 0, 2)
    assert load_card(card_file(tmp_path, {})).volume == VolumeSpec((1, 1, 1), ((0, 255), (0, 255)), None, 1)
    percentiles = {"volume": {"spacing": [1, 1, 1], "percentiles": [0.5, 99.5]}}
    assert load_card(card_file(tmp_path, percentiles)).volume == VolumeSpec((1, 1, 1), (), (0.5, 99.5))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"volume": {"spacing": [1, 1, 1], "window": [0, 9], "percentiles": [1, 99]}}, "one of them, to map values"),
        ({"volume": {"spacing": [1, 1, 1]}}, "and has neither"),
        ({"volume": {"spacing": [1, 1, 1], "window": [9, 0]}}, "volume maps 9 to 0 and 0 to 255"),
        ({"volume": {"spacing": [1, 1, 1], "window": [[0, 9]]}}, "volume.window has 1 windows but channels is 2"),
        ({"volume": {"spacing": [1, 1, 0], "window": [0, 9]}}, "volume.spacing.2: 0 is less than"),
        ({"volume": {"spacing": [1, 1], "window": [0, 9]}}, "volume.spacing: [1, 1]"),
        ({"volume": {"spacing": [1, 1, 1], "window": [0, 9], "colour": 1}}, "'colour' was unexpected"),
        ({"keys": {"images": ["t1", "t2"], "labels": "label"}}, "volume.margin needs keys.masks"),
        ({"keys": {"images": "t1", "labels": "label", "masks": "seg"}}, "names 1 columns but channels is 2"),
        ({"channels": 1}, "keys.images names 2 columns but channels is 1"),
        ({"n_dims": 2}, "medcurves.n_dims: 3 was expected"),
        ({"size": [4, 5]}, "medcurves.size: [4, 5] is too short"),
        ({"mixed_groups": False}, "medcurves.mixed_groups: True was expected"),
        ({"split": {"kind": "official"}}, "keys.split does not say which column holds it"),
        ({"split": FOLDS}, "split.file 'toy/splits.csv' is not in files"),
        ({"split": {"kind": "table"}}, "medcurves.split: 'folds' is a required property"),
        (
            {"split": {"kind": "grouped", "folds": 3, "seed": 0, "file": "toy.csv"}},
            "split.file is that of a split table",
        ),
        (
            {"format": "image_table", "n_dims": 2, "size": [4, 5], "channels": 3},
            "does not use volume, keys.masks; leave them out",
        ),
        ({"format": "image_table", "n_dims": 2, "size": [4, 5], "channels": 3}, "does not take a list in keys.images"),
    ],
)
def test_contradictions_of_cards_of_volumes(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = card_file(tmp_path, changes)
    with pytest.raises(InvalidCard) as caught:
        load_card(path)
    assert reason in str(caught.value)
    assert reason in " ".join(examine(path, tmp_path).problems)


JUNK = [
    None,
    0,
    -3,
    "",
    "x",
    [],
    [[]],
    [6, "a"],
    [1, 2],
    [[1, 2]],
    {},
    {"kind": 3},
    {"images": ["a", "b"]},
    {"spacing": 1},
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_card_of_volumes_is_too_broken_to_be_explained(tmp_path: Path, data: st.DataObject) -> None:
    changes: dict[str, Any] = {}
    for key in data.draw(st.lists(st.sampled_from([*BLOCK, "mixed_groups"]), min_size=1, max_size=3)):
        changes[key] = data.draw(st.sampled_from(JUNK))
    for part in ("volume", "split", "keys"):
        if part not in changes and data.draw(st.booleans()):
            inner: Any = BLOCK[part]
            changes[part] = inner | {data.draw(st.sampled_from(list(inner))): data.draw(st.sampled_from(JUNK))}
    found = examine(card_file(tmp_path, changes), tmp_path)
    assert found.problems  # the file, at least
    assert not any("\n" in problem for problem in found.problems)
