from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from corpus_builder.datasets import Card, card_names, listing, load_card
from corpus_builder.datasets.cards import cards_root, read_front_matter
from metaquery.errors import InvalidCard, UnknownName

EXPECTED = [
    "adrenalmnist3d", "bccd_blood_cells", "brain_tumor_mri4", "cheng_brain_tumor_mri", "ham10000", "head_ct_hemorrhage",
    "iqoth_lung_ct", "lgg_mri_patch3d", "lidc_nodule3d", "phantom_nodules3d", "pneumoniamnist",
]  # fmt: skip


MARKDOWN = sorted(path.stem for path in cards_root().glob("*.md"))


def test_every_dataset_has_a_card() -> None:
    assert set(EXPECTED) <= set(MARKDOWN) < set(card_names())


@pytest.mark.parametrize("name", MARKDOWN)
def test_card_and_its_outer_front_matter_agree(name: str) -> None:
    card = load_card(name)
    front = read_front_matter(cards_root() / f"{name}.md")
    assert card.name == name
    assert front["pretty_name"] == card.title
    assert front["size_categories"] == ["n<1K" if card.n_samples < 1000 else "1K<n<10K"]
    assert ("oncology" in front["tags"]) == (card.oncology != "no")
    assert f"{card.n_dims}d" in front["tags"]
    assert ("synthetic" in front["tags"]) == (not card.files)
    if "unverified" in card.licence or "not confirmed" in card.licence:
        assert front["license"] in ("unknown", "other")


@pytest.mark.parametrize("name", MARKDOWN)
def test_prose_has_every_section(name: str) -> None:
    text = (cards_root() / f"{name}.md").read_text()
    sections = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert sections == [
        "Intended use", "Origin", "Groups and splits", "Known leaks and biases", "Counts", "Processing", "Licence",
    ]  # fmt: skip


def test_datasets_that_share_images_share_their_family() -> None:
    assert load_card("brain_tumor_mri4").family == load_card("cheng_brain_tumor_mri").family == "cheng"
    others = [load_card(name).family for name in MARKDOWN if name not in ("brain_tumor_mri4", "cheng_brain_tumor_mri")]
    assert len(set(others)) == len(others)


def test_class_counts_follow_the_order_of_the_classes() -> None:
    card = load_card("ham10000")
    assert card.classes == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    assert card.class_counts == (327, 500, 500, 115, 500, 500, 142)


def test_unknown_name_names_close_ones() -> None:
    with pytest.raises(UnknownName, match="did you mean lidc_nodule3d"):
        load_card("lidc_nodules3d")


def test_unknown_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"no data card at .*gone\.md"):
        load_card(tmp_path / "gone.md")


@pytest.fixture
def front() -> dict[str, Any]:
    return dict(read_front_matter(cards_root() / "head_ct_hemorrhage.md"))


def write(path: Path, front: dict[str, Any]) -> Path:
    path.write_text(f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# Prose\n")
    return path


def test_card_is_read_from_a_path(tmp_path: Path, front: dict[str, Any]) -> None:
    path = write(tmp_path / "head_ct_hemorrhage.md", front)
    expected = load_card("head_ct_hemorrhage")
    assert load_card(path) == load_card(str(path)) == expected
    assert isinstance(expected, Card)


def test_every_violation_of_the_schema_is_named_in_one_line(tmp_path: Path, front: dict[str, Any]) -> None:
    block = front["medcurves"]
    del front["license"], block["family"]
    block |= {"oncology": True, "n_dims": 4, "colour": "grey"}
    block["files"] = [{"path": "../secret.npz", "sha256": "abc"}]
    block["split"] = {"kind": "grouped", "folds": 2}
    with pytest.raises(InvalidCard) as caught:
        load_card(write(tmp_path / "head_ct_hemorrhage.md", front))
    message = str(caught.value)
    for part in (
        "license",
        "family",
        "oncology",
        "n_dims",
        "colour",
        "files.0.path",
        "files.0.sha256",
        "split.folds",
        "seed",
    ):
        assert part in message
    assert "\n" not in message
    assert "head_ct_hemorrhage.md" in message


def test_every_contradiction_is_named(tmp_path: Path, front: dict[str, Any]) -> None:
    front["medcurves"] |= {
        "n_samples": 150,
        "n_groups": 160,
        "format": "dicom",
        "class_counts": {"normal": 100, "sick": 99},
    }
    with pytest.raises(InvalidCard) as caught:
        load_card(write(tmp_path / "other.md", front))
    message = str(caught.value)
    for part in (
        "called other.md",
        "dicom_table, image_folder, image_table, medmnist, nifti_table, npz, phantom",
        "['normal', 'sick']",
        "sum to 199",
        "n_groups is 160",
    ):
        assert part in message


def test_official_split_needs_its_array_and_has_no_folds(tmp_path: Path, front: dict[str, Any]) -> None:
    front["medcurves"]["split"] = {"kind": "official", "folds": 5}
    with pytest.raises(InvalidCard, match=r"no folds and no seed; .*keys\.split"):
        load_card(write(tmp_path / "head_ct_hemorrhage.md", front))


def test_generated_datasets_have_no_files_and_others_no_generator(tmp_path: Path, front: dict[str, Any]) -> None:
    front["medcurves"]["generator"] = {"shape": [24, 24, 24], "difficulty": 0, "seed": 0}
    with pytest.raises(InvalidCard, match="a generator and also files and keys"):
        load_card(write(tmp_path / "head_ct_hemorrhage.md", front))
    del front["medcurves"]["files"], front["medcurves"]["keys"], front["medcurves"]["generator"]
    with pytest.raises(
        InvalidCard, match=r"medcurves: 'files' is a required property; medcurves: 'keys' is a required"
    ):
        load_card(write(tmp_path / "head_ct_hemorrhage.md", front))
    front["medcurves"]["format"] = "phantom"
    with pytest.raises(InvalidCard, match=r"'generator' is a required property"):
        load_card(write(tmp_path / "head_ct_hemorrhage.md", front))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"# only prose\n", "no front matter"),
        (b"---\nlicense: mit\n", "no front matter"),
        (b"---\nlicense: [mit\n---\n", "not YAML"),
        (b"---\n- mit\n---\n", "must be a mapping, got list"),
        (b"---\n\xff\n---\n", "not UTF-8"),
    ],
)
def test_broken_front_matter(tmp_path: Path, text: bytes, reason: str) -> None:
    path = tmp_path / "broken.md"
    path.write_bytes(text)
    with pytest.raises(InvalidCard, match=reason) as caught:
        load_card(path)
    assert "\n" not in str(caught.value)


def test_yaml_tags_build_no_objects(tmp_path: Path) -> None:
    path = tmp_path / "evil.md"
    path.write_text("---\nmedcurves: !!python/object/apply:os.getcwd []\n---\n")
    with pytest.raises(InvalidCard, match="not YAML"):
        load_card(path)


def test_listing_says_what_is_present(tmp_path: Path) -> None:
    (tmp_path / "ham10000").mkdir()
    (tmp_path / "ham10000" / "data.npz").touch()
    rows = {row["dataset"]: row for row in listing(tmp_path)}
    assert sorted(rows) == sorted(card_names())
    assert rows["ham10000"] == {
        "dataset": "ham10000", "modality": "dermatoscopy", "shape": "64²", "n": 2584, "classes": 7, "groups": 2006,
        "licence": "CC BY-NC-SA 4.0: no commercial use", "family": "ham10000", "present": "yes",
    }  # fmt: skip
    assert rows["bccd_blood_cells"]["present"] == "no"
    assert rows["phantom_nodules3d"]["present"] == "yes"
    for row in listing(None):
        fetched = any(file.urls for file in load_card(row["dataset"]).files)
        assert row["present"] == ("yes" if row["dataset"] == "phantom_nodules3d" else "fetch" if fetched else "no")
