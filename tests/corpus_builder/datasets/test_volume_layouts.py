"""Volumes laid out as public archives lay them out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from volume_files import SIZE, Rows, axes, save_nifti, scan, write_table

from corpus_builder.datasets import examine, load_card, prepare, roles
from corpus_builder.datasets.cards import cards_root, read_front_matter
from corpus_builder.datasets.formats import read


def write_card(root: Path, rows: Rows, block: dict[str, Any]) -> Path:
    """Write the table `data/toy/table.csv` and the card `toy.md`, sealed, of a dataset in `data/toy`."""
    digest = write_table(root / "data/toy/table.csv", rows)
    front = dict(read_front_matter(cards_root() / "head_ct_hemorrhage.md"))
    unused = ("files", "keys", "shape")
    labels = [row["label"] for row in rows]
    made = {key: value for key, value in front["medcurves"].items() if key not in unused}
    file = {"path": "toy/table.csv", "sha256": digest}
    made |= {
        "name": "toy", "classes": ["cold", "hot"], "class_counts": {name: labels.count(name) for name in set(labels)},
        "n_dims": 3, "channels": 1, "n_samples": len(rows), "n_groups": len(rows), "format": "nifti_table",
        "folder": "toy", "size": list(SIZE), "keys": {"images": "image", "masks": "mask", "labels": "label"},
        "volume": {"spacing": [1, 1, 1], "window": [0, 255]}, "split": {"kind": "grouped", "folds": 3, "seed": 0},
    } | block  # fmt: skip
    made["files"] = [file, *block.get("files", [])]
    path = root / "toy.md"
    for _ in range(2):
        path.write_text(f"---\n{yaml.safe_dump(front | {'medcurves': made})}---\n")
        problems = examine(path, root / "data").problems
        if problems:
            assert problems[0].split()[-2] == "tree_sha256:", problems
            made["tree_sha256"] = problems[0].split()[-1]
    assert not problems
    return path


def cases(root: Path, n: int, image: str, mask: str) -> Rows:
    """Write `n` cases below `data/toy`, with paths that `image` and `mask` make of a number, and give their rows."""
    rows = []
    for number in range(n):
        row = {"image": image.format(number), "mask": mask.format(number), "label": ("cold", "hot")[number % 2]}
        save_nifti(root / "data/toy" / row["image"], scan(number))
        region = np.zeros((6, 5, 4), np.uint8)
        region[1:4, 1:3, 1:3] = 1 + number % 2
        save_nifti(root / "data/toy" / row["mask"], region)
        rows.append({"patient": f"P-{number:03d}"} | row)
    return rows


def test_layout_of_worc_with_its_published_splits(tmp_path: Path) -> None:
    rows = cases(tmp_path, 14, "Lipo-{:03d}/NIFTI/image.nii.gz", "Lipo-{:03d}/segmentation.nii.gz")
    lines = [",0_train,0_test,1_train,1_test"]
    names = [row["patient"] for row in rows]
    for k in range(12):  # the lists of test groups are shorter
        tests = [names[k], names[13 - k]] if k < 2 else ["", ""]
        lines.append(f"{k},{names[k + 2]},{tests[0]},{names[k]},{tests[1]}")
    splits = tmp_path / "data/toy/splits.csv"
    splits.write_text("\n".join(lines) + "\n")
    block = {
        "keys": {"images": "image", "masks": "mask", "labels": "label", "groups": "patient"}, "size": [4, 4, 5],
        "volume": {"spacing": [1, 1, 1], "window": [0, 255], "margin": 1},
        "split": {"kind": "table", "file": "toy/splits.csv", "folds": 2, "seed": 0},
        "files": [{"path": "toy/splits.csv", "sha256": hashlib.sha256(splits.read_bytes()).hexdigest()}],
    }  # fmt: skip
    card = load_card(write_card(tmp_path, rows, block))
    prepared = prepare(card, tmp_path / "data", (4, 4, 5))
    np.testing.assert_array_equal(prepared.images[3, 0], axes(scan(3)[0:5, 0:4, 0:4]))
    first = roles(prepared, 0)
    assert first[:2].tolist() == ["test", "test"]
    assert sorted(set(first[2:].tolist())) == ["train", "val"]
    assert roles(prepared, 1)[12:].tolist() == ["test", "test"]


def test_layout_of_the_decathlon(tmp_path: Path) -> None:
    rows = cases(tmp_path, 6, "imagesTr/liver_{}.nii.gz", "labelsTr/liver_{}.nii.gz")
    keys = {"images": "image", "masks": "mask", "labels": "label"}
    block = {"keys": keys, "volume": {"spacing": [1, 1, 1], "percentiles": [0, 100]}, "group_pattern": r"_(\d+)\."}
    raw = read(load_card(write_card(tmp_path, rows, block)), tmp_path / "data")
    assert raw.groups.tolist() == list("012345")
    assert raw.masks is not None
    assert raw.masks.sum(axis=(1, 2, 3)).tolist() == [12] * 6


def test_layout_of_brats_has_a_channel_per_sequence(tmp_path: Path) -> None:
    rows = [dict(row) for row in cases(tmp_path, 6, "P{0}/P{0}_t1.nii.gz", "P{0}/P{0}_seg.nii.gz")]
    names = ("t1", "t1ce", "t2", "flair")
    for number, row in enumerate(rows):
        del row["image"]
        for shift, name in enumerate(names):
            row[name] = f"P{number}/P{number}_{name}.nii.gz"
            save_nifti(tmp_path / "data/toy" / row[name], scan(10 * number + shift))
    keys = {"images": list(names), "masks": "mask", "labels": "label", "groups": "patient"}
    card = load_card(write_card(tmp_path, rows, {"keys": keys, "channels": 4}))
    raw = read(card, tmp_path / "data")
    assert raw.images.shape == (6, *SIZE, 4)
    np.testing.assert_array_equal(raw.images[2, ..., 3], axes(scan(23)))
    assert prepare(card, tmp_path / "data", SIZE).images.shape == (6, 4, *SIZE)


def test_layout_of_hecktor_has_a_window_per_channel(tmp_path: Path) -> None:
    rows = [dict(row) for row in cases(tmp_path, 6, "imagesTr/C{}__CT.nii.gz", "labelsTr/C{}.nii.gz")]
    for number, row in enumerate(rows):
        row["pet"] = f"imagesTr/C{number}__PT.nii.gz"
        save_nifti(tmp_path / "data/toy" / row["pet"], (scan(number) / 10).astype(np.float32))
    block = {
        "keys": {"images": ["image", "pet"], "masks": "mask", "labels": "label"}, "channels": 2,
        "volume": {"spacing": [1, 1, 1], "window": [[0, 510], [0, 25.5]]},
    }  # fmt: skip
    raw = read(load_card(write_card(tmp_path, rows, block)), tmp_path / "data")
    np.testing.assert_array_equal(raw.images[1, ..., 0], axes(np.rint(scan(1) / 2)))
    np.testing.assert_array_equal(raw.images[1, ..., 1], axes(scan(1)))
