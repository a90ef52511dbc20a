"""`corpus-builder datasets check` and what cards of image formats must not contradict."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import assert_one_line_error
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from corpus_builder.datasets import Examination, examine, listing, load_card
from corpus_builder.datasets.cards import cards_root, read_front_matter
from metaquery.errors import InvalidCard, UnknownName

Command = Callable[..., Any]
Front = dict[str, Any]


def write(path: Path, front: Front) -> Path:
    path.write_text(f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# Prose\n")
    return path


@pytest.fixture
def front(tmp_path: Path) -> Front:
    """The front matter of `toy`: 12 images in two folders below `data`, with 6 patients, without its checksum."""
    for index in range(12):
        path = tmp_path / "data" / "toy" / ("cold", "hot")[index % 2] / f"p{index // 2}_{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 6), 7 * index, np.uint8)).save(path)
    front = dict(read_front_matter(cards_root() / "head_ct_hemorrhage.md"))
    block = {key: value for key, value in front["medcurves"].items() if key not in ("files", "keys", "shape")}
    block |= {
        "name": "toy", "classes": ["cold", "hot"], "class_counts": {"cold": 6, "hot": 6}, "n_dims": 2, "channels": 1,
        "n_samples": 12, "n_groups": 6, "format": "image_folder", "folder": "toy", "size": [6, 6],
        "group_pattern": r"^(p\d)_", "split": {"kind": "grouped", "folds": 3, "seed": 0},
    }  # fmt: skip
    return front | {"medcurves": block}


def checked(front: Front, tmp_path: Path) -> Examination:
    return examine(write(tmp_path / "toy.md", front), tmp_path / "data")


@pytest.fixture
def sound(front: Front, tmp_path: Path) -> Front:
    """`front` with the checksum that its examination tells."""
    (problem,) = checked(front, tmp_path).problems
    front["medcurves"]["tree_sha256"] = problem.split()[-1]
    return front


def test_sound_card_has_a_summary(sound: Front, tmp_path: Path) -> None:
    found = checked(sound, tmp_path)
    assert found.sound
    assert found.summary == (
        "12 samples; 2 classes: cold 6, hot 6; 6 groups, 0 of them joined to another because they share an identical "
        "image; fold 0: train 4, val 4, test 4"
    )


def test_joined_groups_are_counted(front: Front, tmp_path: Path) -> None:
    hot = tmp_path / "data" / "toy" / "hot"
    (hot / "p5_11.png").write_bytes((hot / "p0_1.png").read_bytes())
    (problem,) = checked(front, tmp_path).problems
    front["medcurves"]["tree_sha256"] = problem.split()[-1]
    assert "6 groups, 1 of them joined" in checked(front, tmp_path).summary


def assert_told(found: Examination, *parts: str) -> None:
    """Each problem of `found` holds the part at its place; there are no others."""
    assert len(found.problems) == len(parts), found.problems
    for problem, part in zip(found.problems, parts, strict=True):
        assert part in problem
        assert "\n" not in problem
    assert not found.summary


def test_schema_contradictions_counts_and_images_are_told_at_once(sound: Front, tmp_path: Path) -> None:
    del sound["license"], sound["medcurves"]["citation"]
    sound["medcurves"] |= {"name": "other", "n_groups": 7, "n_samples": 13, "oncology": True, "colour": "red"}
    hot = tmp_path / "data" / "toy" / "hot"
    (hot / "p0_1.png").write_bytes(b"no image")
    (hot / "p1_3.png").write_bytes((hot / "p1_3.png").read_bytes()[:50])
    assert_told(
        checked(sound, tmp_path),
        "top level: 'license' is a required property",
        "medcurves: 'citation' is a required property",
        "medcurves: Additional properties are not allowed ('colour'",
        "medcurves.oncology: True is not one of",
        "name is 'other' but the file is called toy.md",
        "class_counts sum to 12 but n_samples is 13",
        "hot/p0_1.png: expected an image",
        "hot/p1_3.png: the image is damaged or cut off",
        "expected tree_sha256",
        "expected number of images 13, got 12",
        "expected number of groups 7, got 6",
    )


def test_counts_are_told_where_the_data_can_be_read(sound: Front, tmp_path: Path) -> None:
    sound["medcurves"] |= {"class_counts": {"cold": 5, "hot": 7}, "n_groups": 4}
    assert_told(checked(sound, tmp_path), "{'cold': 5, 'hot': 7}, got {'cold': 6, 'hot': 6}", "groups 4, got 6")


def test_a_card_whose_data_cannot_be_read_is_judged_by_itself(sound: Front, tmp_path: Path) -> None:
    sound["medcurves"] |= {"size": [6], "n_groups": 70, "format": "dicom"}
    problems = " ".join(checked(sound, tmp_path).problems)
    for part in ("medcurves.size: [6]", "'files' is a required property", "'dicom' is not one of", "n_groups is 70"):
        assert part in problems


@pytest.fixture
def official(front: Front, tmp_path: Path) -> Front:
    """A table with an official split whose val lacks `hot` and whose patient p0 is in train and test."""
    block = front["medcurves"]
    lines = ["path,label,patient,role"]
    for index in range(12):
        name = ("cold", "hot")[index % 2]
        role = "test" if index in (1, 10, 11) else "val" if index == 8 else "train"
        lines.append(f"{name}/p{index // 2}_{index}.png,{name},p{index // 2},{role}")
    table = tmp_path / "data" / "toy.csv"
    table.write_text("\n".join(lines) + "\n")
    del block["group_pattern"]
    block |= {
        "format": "image_table", "split": {"kind": "official"},
        "keys": {"images": "path", "labels": "label", "groups": "patient", "split": "role"},
        "files": [{"path": "toy.csv", "sha256": hashlib.sha256(table.read_bytes()).hexdigest()}],
    }  # fmt: skip
    (problem,) = checked(front, tmp_path).problems
    block["tree_sha256"] = problem.split()[-1]
    return front


def test_roles_without_a_class_and_leaks_are_told(official: Front, tmp_path: Path) -> None:
    assert_told(
        checked(official, tmp_path),
        "toy, fold 0: expected every class in every role, but val has no sample of hot",
        "toy, fold 0: expected each group in one role, but 'p0' is in test and train",
        "toy, fold 0: expected each group in one role, but 'p4' is in train and val",
    )


def test_too_few_groups_for_the_folds_is_told_once(sound: Front, tmp_path: Path) -> None:
    sound["medcurves"]["split"]["folds"] = 7
    assert_told(checked(sound, tmp_path), "expected at least 7 groups with class 'cold'")


JUNK = [None, 0, -3, 1.5, "", "x", "../x", [], [[]], [6, "a"], {}, {"kind": 3}, {"cold": "hot"}, {1: 2}, True]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_card_is_too_broken_to_be_explained(official: Front, tmp_path: Path, data: st.DataObject) -> None:
    block = dict(official["medcurves"])
    for key in data.draw(st.lists(st.sampled_from([*block, "group_pattern", "generator", "folder"]), min_size=1)):
        if data.draw(st.booleans()):
            block.pop(key, None)
        else:
            block[key] = data.draw(st.sampled_from(JUNK))
    found = checked(official | {"medcurves": block}, tmp_path)
    assert found.problems  # those of the split, at least
    assert not any("\n" in problem for problem in found.problems)


def test_every_missing_or_other_file_is_told(official: Front, tmp_path: Path) -> None:
    block = official["medcurves"]
    block["files"] = [
        {"path": "toy.csv", "sha256": "0" * 64},
        {"path": "gone.csv", "sha256": "0" * 64},
        {"path": "../toy.md", "sha256": "0" * 64},
    ]
    problems = checked(official, tmp_path).problems
    assert_told(
        Examination(problems),
        "medcurves.files.2.path: '../toy.md' does not match",
        "expected sha256 " + "0" * 64,
        "there is no file",
    )


def test_front_matter_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "toy.md"
    path.write_text("# prose\n")
    assert_told(examine(path, None), "has no front matter")
    found = examine(write(path, {"medcurves": 3}), None)
    assert "medcurves: 3 is not of type" in " ".join(found.problems)
    with pytest.raises(UnknownName):
        examine("no_such_card", None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"split": {"kind": "official"}}, "a folder of images has no official split"),
        ({"group_pattern": "p"}, "'p' has 0 capture groups, expected one"),
        ({"group_pattern": "("}, "not a regular expression"),
        ({"source_names": {"cold": "x"}}, "source_names has ['cold'] but the classes are ['cold', 'hot']"),
        ({"source_names": {"cold": "x", "hot": "x"}}, "gives two classes the same name"),
        ({"keys": {"images": "a", "labels": "b"}}, "reads folder and not keys"),
        ({"keys": {"images": "a", "labels": "b", "groups": "c"}}, "groups come from group_pattern and also"),
        ({"folder": "../toy"}, "medcurves.folder: '../toy' does not match"),
        ({"folder": "/toy"}, "medcurves.folder: '/toy' does not match"),
        ({"channels": 2}, "medcurves.channels: 2 is not one of [1, 3]"),
        ({"n_dims": 3}, "medcurves.n_dims: 2 was expected"),
        ({"size": [6, 0]}, "medcurves.size.1: 0 is less than"),
        ({"generator": {"shape": [12, 12, 12], "difficulty": 0, "seed": 0}}, "a generator and also folder"),
        ({"format": "phantom"}, "format phantom does not use folder, size, group_pattern"),
        ({"format": "image_table", "files": [], "keys": {"images": "a", "labels": "b"}}, "medcurves.files: []"),
    ],
)
def test_contradictions_of_image_cards(sound: Front, tmp_path: Path, changes: Front, reason: str) -> None:
    sound["medcurves"] |= changes
    path = write(tmp_path / "toy.md", sound)
    assert reason in " ".join(examine(path, tmp_path / "data").problems)
    if changes != {"format": "phantom"}:
        with pytest.raises(InvalidCard) as caught:
            load_card(path)
        assert reason in str(caught.value)


def test_card_with_an_empty_list_of_files_is_loaded(sound: Front, tmp_path: Path) -> None:
    sound["medcurves"]["files"] = []
    card = load_card(write(tmp_path / "toy.md", sound))
    assert (card.files, card.folder, card.size) == ((), "toy", (6, 6))


def test_listing_looks_for_the_folder(sound: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = tmp_path / "cards"
    cards.mkdir()
    write(cards / "toy.md", sound)
    monkeypatch.setattr("corpus_builder.datasets.cards.cards_root", lambda: cards)
    assert [listing(root)[0]["present"] for root in (None, tmp_path, tmp_path / "data")] == ["no", "no", "yes"]


def test_command(command: Command, sound: Front, tmp_path: Path) -> None:
    path, root = write(tmp_path / "toy.md", sound), tmp_path / "data"
    done = command("corpus-builder", "datasets", "check", path, "--data-root", root, env={"MEDCURVES_DATA": "/gone"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("sound: 12 samples; 2 classes")
    sound["medcurves"] |= {"n_groups": 5, "folder": "gone"}
    done = command("corpus-builder", "datasets", "--data-root", root, "check", write(path, sound))
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no folder" in done.stderr
    sound["medcurves"] |= {"folder": "toy", "n_samples": 13}
    done = command("corpus-builder", "datasets", "check", write(path, sound), env={"MEDCURVES_DATA": str(root)})
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert len(lines) == 3
    assert all(line.startswith("error: ") for line in lines)


def test_command_takes_names_and_still_lists(command: Command) -> None:
    assert command("corpus-builder", "datasets", "check", "phantom_nodules3d").stdout.startswith("sound: 240 samples")
    assert_one_line_error(command("corpus-builder", "datasets", "check", "phantom_nodule"), "phantom_nodules3d")
    listed = command("corpus-builder", "datasets")
    assert listed.returncode == 0
    assert "lidc_nodule3d" in listed.stdout
    assert "one line per problem" in command("corpus-builder", "datasets", "check", "--help").stdout
