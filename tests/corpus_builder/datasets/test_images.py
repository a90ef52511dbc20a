from __future__ import annotations

import csv
import hashlib
import io
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from corpus_builder.datasets import dataset_key, prepare, roles
from corpus_builder.datasets.cards import Card, DataFile, SplitSpec
from corpus_builder.datasets.formats import read
from corpus_builder.datasets.images import decode
from corpus_builder.datasets.raw import problems_of
from corpus_builder.datasets.resize import resize
from corpus_builder.datasets.tree import tree_sha256
from metaquery.errors import InvalidCard, InvalidData, InvalidInput, MedCurvesError

SUFFIXES = ("png", "tif", "bmp")  # without loss


def pixels(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def refused(card: Card, root: Path | None, kind: type[MedCurvesError] = InvalidData) -> list[str]:
    """The problems with which reading is refused; the message itself is one line that begins with the first."""
    with pytest.raises(MedCurvesError) as caught:
        read(card, root)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    problems = problems_of(caught.value)
    assert str(caught.value).startswith(problems[0])
    return problems


def sealed(card: Card, root: Path) -> Card:
    """The card with the checksum that the refusal tells."""
    with pytest.raises(InvalidCard, match=r"add {2}tree_sha256: [0-9a-f]{64}") as caught:
        read(replace(card, tree_sha256=""), root)
    return replace(card, tree_sha256=problems_of(caught.value)[0].split()[-1])


@pytest.fixture
def base(card: Card) -> Card:
    return replace(card, keys={}, n_samples=12, class_counts=(6, 6), size=(8, 10), split=SplitSpec("grouped", 3, 0))


@pytest.fixture
def folder(tmp_path: Path, base: Card) -> Card:
    """Six images per class of six patients, of several sizes and file formats; the card is sealed."""
    for index in range(12):
        path = tmp_path / "toy" / ("Cold scans", "hot")[index % 2] / f"p{index // 2}_{index}.{SUFFIXES[index % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(index, 8 + index % 4, 10 + index % 2)).save(path)
    card = replace(base, format="image_folder", folder="toy", group_pattern=r"^(p\d+)_", n_groups=6,
                   source_names={"cold": "Cold scans", "hot": "hot"})  # fmt: skip
    return sealed(card, tmp_path)


def test_folder_is_read_in_the_order_of_classes_and_paths(folder: Card, tmp_path: Path) -> None:
    raw = read(folder, tmp_path)
    assert raw.images.shape == (12, 8, 10)
    assert raw.labels.tolist() == [0] * 6 + [1] * 6
    assert raw.groups.tolist() == [f"p{i}" for i in range(6)] * 2  # a patient may have both labels
    np.testing.assert_array_equal(raw.images[0], pixels(0, 8, 10))  # of the stated size: untouched
    np.testing.assert_array_equal(raw.images[6], resize(pixels(1, 9, 11)[None, None], (8, 10))[0, 0])
    assert raw.official_roles is None
    assert prepare(folder, tmp_path, (4, 4)).images.shape == (12, 1, 4, 4)


def test_without_a_pattern_each_image_is_its_own_group(folder: Card, tmp_path: Path) -> None:
    raw = read(replace(folder, group_pattern="", n_groups=12), tmp_path)
    assert len(set(raw.groups.tolist())) == 12


def test_files_below_and_hidden_files_and_other_folders(folder: Card, tmp_path: Path) -> None:
    below = tmp_path / "toy" / "hot" / "p9"
    below.mkdir()
    Image.fromarray(pixels(99, 8, 10)).save(below / "x.png")
    (tmp_path / "toy" / "hot" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "toy" / "notes").mkdir()
    (tmp_path / "toy" / "notes" / "a.txt").write_text("x")
    card = replace(folder, n_samples=13, class_counts=(6, 7), n_groups=7, group_pattern=r"^(p\d+)[_/]")
    raw = read(sealed(card, tmp_path), tmp_path)
    assert raw.groups.tolist()[-1] == "p9"


def test_checksum_is_that_of_sha256sum(folder: Card, tmp_path: Path) -> None:
    script = "find . -type f | sed 's|^./||' | LC_ALL=C sort | tr '\\n' '\\0' | xargs -0 sha256sum | sha256sum"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path / "toy", capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == folder.tree_sha256


@given(st.dictionaries(st.text("ab/é.", min_size=1), st.integers(0, 9).map(lambda n: f"{n:064x}"), max_size=6))
def test_checksum_knows_order_of_nothing_but_every_path_and_hash(hashes: dict[str, str]) -> None:
    whole = tree_sha256(hashes)
    assert whole == tree_sha256(dict(reversed(hashes.items())))
    for path in hashes:
        assert whole != tree_sha256({**hashes, path: "f" * 64})
        assert whole != tree_sha256({key: value for key, value in hashes.items() if key != path})


@pytest.mark.parametrize("change", ["add", "remove", "rename", "edit"])
def test_another_tree_is_refused_with_both_checksums(folder: Card, tmp_path: Path, change: str) -> None:
    victim = next((tmp_path / "toy" / "hot").glob("*.png"))
    if change == "add":
        victim.with_name("p5_new.png").write_bytes(victim.read_bytes())
    elif change == "remove":
        victim.unlink()
    elif change == "rename":
        victim.rename(victim.with_name("p0_other.png"))
    else:
        Image.fromarray(pixels(77, 8, 10)).save(victim)
    (message, *_) = refused(folder, tmp_path)
    assert f"expected tree_sha256 {folder.tree_sha256} as in data card 'toy', got " in message
    now = message.split("got ")[1].split()[0]
    assert f"expected tree_sha256 {now}" not in " ".join(refused(replace(folder, tree_sha256="0" * 64), tmp_path))


def test_checksum_and_rules_are_part_of_the_dataset_key(folder: Card) -> None:
    others = [{"tree_sha256": "0" * 64}, {"size": (9, 9)}, {"group_pattern": ""}, {"source_names": {}}]
    keys = {dataset_key(replace(folder, **change), (8, 8)) for change in ({}, *others)}
    assert len(keys) == 5
    assert dataset_key(replace(folder, folder="moved"), (8, 8)) == dataset_key(folder, (8, 8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_grey_and_colour_as_the_card_says() -> None:
    colour, grey = pixels(0, 5, 6, 3), pixels(1, 5, 6)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(colour)), 3, "x"), colour)
    luma = colour @ [0.299, 0.587, 0.114]
    assert np.abs(decode(encoded(Image.fromarray(colour)), 1, "x") - luma).max() <= 1
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(grey), "BMP"), 3, "x"), np.stack([grey] * 3, -1))
    black = encoded(Image.fromarray(grey > 127))
    assert set(decode(black, 1, "x").reshape(-1).tolist()) == {0, 255}
    palette = Image.fromarray(colour).quantize(4)
    shown = decode(encoded(palette, transparency=b"\x00\xff\xff\xff"), 3, "x")
    np.testing.assert_array_equal(shown, np.array(palette.convert("RGB")))
    smooth = Image.fromarray(np.full((16, 16), 90, np.uint8))
    assert np.abs(decode(encoded(smooth, "JPEG"), 1, "x").astype(int) - 90).max() <= 2


def test_colour_folder_has_channels_last(folder: Card, tmp_path: Path) -> None:
    colour = sealed(replace(folder, channels=3), tmp_path)
    raw = read(colour, tmp_path)
    assert raw.images.shape == (12, 8, 10, 3)
    np.testing.assert_array_equal(raw.images[..., 2], read(folder, tmp_path).images)


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(["PNG", "JPEG", "TIFF", "BMP", "GIF"]), data=st.data())
def test_any_damage_is_refused_in_one_line_or_changes_only_pixels(kind: str, data: st.DataObject) -> None:
    content = bytearray(encoded(Image.fromarray(pixels(3, 20, 24)), kind))
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[position] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(content)))
    try:
        assert decode(bytes(content[:cut]), 1, "scan.x").ndim == 2
        message = "scan.x: "
    except InvalidData as error:
        message = str(error)
    assert message.startswith("scan.x: ")
    assert "\n" not in message


def many_frames() -> bytes:
    frames = [Image.fromarray(pixels(seed, 5, 5)) for seed in (1, 2)]
    return encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>not found</html>", "expected an image that Pillow reads"),
        (b"", "expected an image that Pillow reads"),
        (encoded(Image.fromarray(pixels(0, 40, 40)))[:900], "damaged or cut off"),
        (encoded(Image.fromarray(pixels(0, 5, 5).astype(np.uint16) * 9)), "8 bits per channel, got Pillow's mode I;16"),
        (many_frames(), "expected one image, got 2 frames"),
    ],
    ids=["web page", "empty", "truncated", "16 bits", "frames"],
)
def test_files_that_are_no_image(folder: Card, tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "toy" / "hot" / "p1_3.png"
    path.write_bytes(content)
    problems = refused(folder, tmp_path)
    assert any(problem.startswith(f"{path}: ") and reason in problem for problem in problems)
    assert "expected tree_sha256" in " ".join(problems)


def test_image_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(Image.fromarray(pixels(0, 30, 30)))
    for limit in (20, 700):  # an error and a warning of Pillow
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(InvalidData, match=r"x: expected an image of usual size, got .*900 pixels"):
            decode(content, 1, "x")


def test_folders_that_are_not_as_the_card_says(folder: Card, tmp_path: Path) -> None:
    (tmp_path / "toy" / "empty").mkdir()
    empty = replace(folder, source_names={"cold": "Cold scans", "hot": "empty"})
    assert any("class 'hot': expected images, but the folder is empty" in line for line in refused(empty, tmp_path))
    default = replace(folder, source_names={})
    (line, *_) = refused(default, tmp_path)
    assert "class 'cold': there is no such folder, only ['Cold scans', 'empty', 'hot']" in line
    outside = replace(folder, folder="toy/hot", source_names={"cold": "../Cold scans", "hot": "."})
    assert sum("expected a path inside" in line for line in refused(outside, tmp_path)) == 6
    twice = replace(folder, source_names={"cold": ".", "hot": "hot"})
    assert any("hot/p0_1.tif came before in" in line for line in refused(twice, tmp_path))
    nowhere = refused(replace(folder, folder="gone"), tmp_path, InvalidInput)
    assert "--data-root" in nowhere[0]
    assert "no data root given" in refused(folder, None, InvalidInput)[0]


def test_a_link_out_of_the_data_root_is_refused(folder: Card, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "toy").rename(root / "toy")
    secret = tmp_path / "secret.png"
    (root / "toy" / "hot" / "p1_3.png").rename(secret)
    (root / "toy" / "hot" / "p1_3.png").symlink_to(secret)
    assert "expected a path inside" in refused(folder, root)[0]
    (root / "toy").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "hot" / "p1_3.png").unlink()
    secret.rename(tmp_path / "elsewhere" / "hot" / "p1_3.png")
    (root / "toy").symlink_to(tmp_path / "elsewhere")  # the whole folder may be on another disk
    assert len(read(folder, root).labels) == 12


def test_a_name_without_group_is_named(folder: Card, tmp_path: Path) -> None:
    card = replace(folder, group_pattern=r"^(p[0-4])_")
    lines = [line for line in refused(card, tmp_path) if "expected a group in" in line]
    assert len(lines) == 2
    assert str(tmp_path / "toy" / "Cold scans" / "p5_10.tif") in lines[0]


Rows = list[dict[str, str]]
Table = Callable[..., tuple[Card, Path]]


@pytest.fixture
def table(tmp_path: Path, base: Card) -> Table:
    """Write 12 images and a table of them, changed by a function, and give the card and the data root."""

    def write(change: Callable[[Rows], object] = lambda rows: None, **changes: Any) -> tuple[Card, Path]:
        rows: Rows = []
        for index in range(12):
            path = tmp_path / "scans" / f"{index}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels(index, 9, 9)).save(path)
            rows.append({"file": path.name, "dx": "CH"[index % 2], "patient": f"p{index // 2}",
                         "set": ("train", "val", "test")[index // 4]})  # fmt: skip
        change(rows)
        with (tmp_path / "toy.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["file", "dx", "patient", "set"])
            writer.writeheader()
            writer.writerows(rows)
        digest = hashlib.sha256((tmp_path / "toy.csv").read_bytes()).hexdigest()
        keys = {"images": "file", "labels": "dx", "groups": "patient", "split": "set"}
        card = replace(base, format="image_table", folder="scans", keys=keys, n_groups=6, files=(DataFile("toy.csv",
                       digest),), source_names={"cold": "C", "hot": "H"}, tree_sha256="0" * 64)  # fmt: skip
        return replace(card, **changes), tmp_path

    return write


def test_table_is_read_in_its_order(table: Table) -> None:
    card, root = table(lambda rows: rows.reverse(), split=SplitSpec("official"))
    raw = read(sealed(card, root), root)
    assert raw.labels.tolist() == [1, 0] * 6
    assert raw.groups.tolist() == [f"p{index // 2}" for index in reversed(range(12))]
    assert raw.official_roles is not None
    assert raw.official_roles.tolist() == ["test"] * 4 + ["val"] * 4 + ["train"] * 4
    np.testing.assert_array_equal(raw.images[0], resize(pixels(11, 9, 9)[None, None], (8, 10))[0, 0])
    prepared = prepare(sealed(card, root), root, (4, 4))
    assert roles(prepared, 0).tolist() == raw.official_roles.tolist()


def test_table_with_groups_by_pattern_from_the_data_root(table: Table) -> None:
    def long(rows: Rows) -> None:
        for row in rows:
            row["file"] = f"scans/{row['file']}"

    keys = {"images": "file", "labels": "dx"}
    card, root = table(long, folder="", keys=keys, group_pattern=r"/(\d)", n_groups=10)
    raw = read(sealed(card, root), root)
    assert raw.groups.tolist() == [str(index)[0] for index in range(12)]
    assert raw.official_roles is None
    (message, *_) = refused(card, root)
    assert f"expected tree_sha256 {'0' * 64}" in message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dx": "?"}, "line 3: expected one of the labels ['C', 'H'], got '?'"),
        ({"set": "holdout"}, "line 3: expected the split train, val, test, got 'holdout'"),
        ({"patient": ""}, "line 3: expected a group in column 'patient'"),
        ({"file": "../toy.csv"}, "line 3: expected a path inside"),
        ({"file": "/etc/hostname"}, "line 3: expected a path inside"),
        ({"file": "a\0b.png"}, "line 3: expected a path inside"),
        ({"file": "gone.png"}, "line 3: there is no file"),
        ({"file": ""}, "line 3: there is no file"),
        ({"file": "./0.png"}, "line 3: expected each image once, but"),
    ],
)
def test_rows_that_cannot_be_used(table: Table, changes: dict[str, str], reason: str) -> None:
    card, root = table(lambda rows: rows[1].update(changes))
    assert any(f"{root / 'toy.csv'}, {reason}" in line for line in refused(card, root))


def test_a_path_too_long_for_the_file_system_is_refused(table: Table) -> None:
    card, root = table(lambda rows: rows[1].update(file="long" * 999))
    assert "cannot be read: File name too long" in refused(card, root)[0]


def test_a_missing_checksum_is_told_beside_other_problems(table: Table) -> None:
    card, root = table(lambda rows: rows[1].update(dx="?"), tree_sha256="")
    assert "expected one of the labels" in refused(card, root)[0]
    assert "expected tree_sha256, got none" in refused(card, root)[1]


def test_all_bad_rows_are_told_at_once(table: Table) -> None:
    card, root = table(lambda rows: [rows[i].update(dx="?") for i in (1, 4, 9)])
    with pytest.raises(InvalidData, match=r"line 3: .*\(and 3 more: corpus-builder datasets check lists them\)"):
        read(card, root)  # three labels and the checksum
    assert [line.split(": ")[0][-2:].strip() for line in refused(card, root)[:3]] == ["3", "6", "11"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"file,dx,patient\n0.png,C,p0\n", "expected the columns ['set'], got only ['file', 'dx', 'patient']"),
        (b"", "expected the columns"),
        (b"file,dx,patient,set,dx\n", "expected each column once, got ['dx']"),
        (b"file,dx,patient,set\n", "expected one row per image, got none"),
        (b"file,dx,patient,set\n0.png,C\n", "line 2: expected 4 cells, got 2"),
        (b"file,dx,patient,set\n\xff", "expected a CSV in UTF-8"),
        (b'file,dx,patient,set\n"0.png,C', "expected a CSV in UTF-8"),
    ],
)
def test_tables_that_cannot_be_read(table: Table, content: bytes, reason: str) -> None:
    card, root = table()
    (root / "toy.csv").write_bytes(content)
    card = replace(card, files=(DataFile("toy.csv", hashlib.sha256(content).hexdigest()),))
    message = refused(card, root)[0]
    assert reason in message
    assert str(root / "toy.csv") in message


def test_table_with_a_byte_order_mark(table: Table) -> None:
    card, root = table()
    content = b"\xef\xbb\xbf" + (root / "toy.csv").read_bytes()
    (root / "toy.csv").write_bytes(content)
    card = replace(card, files=(DataFile("toy.csv", hashlib.sha256(content).hexdigest()),))
    assert sealed(card, root).tree_sha256 == sealed(table()[0], root).tree_sha256
