"""The cache of prepared arrays: the same arrays, only while card, code and sources are the same, and never half."""

from __future__ import annotations

import multiprocessing
import os
import stat
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import assert_one_line_error
from numpy.typing import NDArray
from PIL import Image

from corpus_builder.datasets import Card, PreparedDataset, cache, load_card, prepare, prepare_cached
from corpus_builder.datasets.sources import Sources
from corpus_builder.datasets.tree import FileTree
from metaquery.cache import cache_directory
from metaquery.errors import InvalidData, InvalidInput

Save = Callable[..., tuple[Card, Path]]
Arrays = dict[str, NDArray[Any]]
SIZE = (6, 5)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv("MEDCURVES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def preparations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the datasets that were really prepared, in order."""
    names = []

    def counted(card: Card, *rest: Any) -> PreparedDataset:
        names.append(card.name)
        return prepare(card, *rest)

    monkeypatch.setattr(cache, "prepare", counted)
    return names


def assert_same(first: PreparedDataset, second: PreparedDataset) -> None:
    for name in ("images", "labels", "groups", "official_roles", "masks", "spacing"):
        one, other = getattr(first, name), getattr(second, name)
        assert (one is None) == (other is None), name
        if one is not None:
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
    assert (first.sha256, first.card, first.read) == (second.sha256, second.card, second.read)


def at_rest(*paths: Path) -> None:
    """Wait until the last change of `paths` is old enough to be told from the next one."""
    latest = max(max(path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in paths)
    while time.time_ns() <= latest + cache._TICK_NS:
        time.sleep(0.05)


@pytest.fixture
def quick_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the test the wait: the file systems of tests have a fine clock."""
    monkeypatch.setattr(cache, "_TICK_NS", 5 * 10**7)


def test_second_preparation_maps_the_first(save: Save, arrays: Arrays, preparations: list[str], place: Path) -> None:
    card, root = save(arrays)
    plain = prepare(card, root, SIZE)
    for _ in range(3):
        assert_same(prepare_cached(card, root, SIZE), plain)
    assert preparations == ["toy"]
    images = prepare_cached(card, root, SIZE).images
    assert type(images) is np.ndarray
    assert isinstance(images.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0
    assert {path.suffix for path in place.rglob("*") if path.is_file()} <= {".npy", ".json", ""}


def test_roles_masks_and_spacing_are_kept(
    save: Save, arrays: Arrays, preparations: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    card, root = save(arrays)
    rng = np.random.default_rng(0)
    whole = replace(
        prepare(card, root, SIZE),
        official_roles=np.tile(["train", "test"], 20),
        masks=rng.random((40, *SIZE)) > 0.5,
        spacing=rng.random((40, 2)),
        read={},
    )
    monkeypatch.setattr(cache, "prepare", lambda *_: whole)
    prepare_cached(card, root, SIZE)
    monkeypatch.setattr(cache, "prepare", lambda *_: pytest.fail("it was stored"))
    assert_same(prepare_cached(card, root, SIZE), whole)


def test_card_size_and_code_have_their_own_entries(
    save: Save, arrays: Arrays, preparations: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    card, root = save(arrays)
    prepare_cached(card, root, SIZE)
    assert prepare_cached(replace(card, family="other"), root, SIZE).card.family == "other"
    assert len(preparations) == 1
    prepare_cached(card, root, (5, 5))
    assert len(preparations) == 2
    prepare_cached(replace(card, split=replace(card.split, seed=1)), root, SIZE)
    assert len(preparations) == 3
    with pytest.raises(InvalidData, match="number of images 41"):
        prepare_cached(replace(card, n_samples=41), root, SIZE)
    monkeypatch.setattr(cache, "_code", lambda: "another version of the code")
    prepare_cached(card, root, SIZE)
    assert preparations[4:] == ["toy"]


@pytest.mark.parametrize("bad", [(6,), (0, 5), ()])
def test_bad_input_is_refused_and_nothing_is_stored(save: Save, arrays: Arrays, bad: tuple[int, ...]) -> None:
    card, root = save(arrays)
    with pytest.raises(InvalidInput, match="does not fit"):
        prepare_cached(card, root, bad)
    with pytest.raises(InvalidInput, match="no data root"):
        prepare_cached(card, None, SIZE)
    (root / "toy" / "data.npz").write_bytes(b"x")
    with pytest.raises(InvalidData, match="expected sha256"):
        prepare_cached(card, root, SIZE)
    assert cache.entries() == []


def damages(entry: Path) -> dict[str, Callable[[], object]]:
    images, record = entry / "images.npy", entry / "entry.json"

    def alter() -> None:
        content = bytearray(images.read_bytes())
        content[-1] ^= 1
        images.write_bytes(content)

    return {
        "altered": alter,
        "cut off": lambda: images.write_bytes(images.read_bytes()[:-40]),
        "lost": (entry / "labels.npy").unlink,
        "no record": record.unlink,
        "no JSON": lambda: record.write_text("{"),
        "not ours": lambda: record.write_text("[]"),
        "another sum": lambda: record.write_text(record.read_text().replace('"sha256": "', '"sha256": "0')),
    }


@pytest.mark.parametrize("damage", damages(Path()))
def test_damaged_entry_is_made_again(save: Save, arrays: Arrays, preparations: list[str], damage: str) -> None:
    card, root = save(arrays)
    plain = prepare(card, root, SIZE)
    prepare_cached(card, root, SIZE)
    (entry,) = cache.entries()
    damages(entry.path)[damage]()
    for _ in range(2):
        assert_same(prepare_cached(card, root, SIZE), plain)
    assert len(preparations) == 2
    assert len(cache.entries()) == 1


def test_sources_are_read_once_while_untouched(
    save: Save, arrays: Arrays, monkeypatch: pytest.MonkeyPatch, quick_clock: None
) -> None:
    card, root = save(arrays)
    file = root / "toy" / "data.npz"
    read = []
    again = Sources.same_again
    monkeypatch.setattr(Sources, "same_again", lambda self, *rest: read.append(1) or again(self, *rest))
    at_rest(file)
    prepare_cached(card, root, SIZE)
    prepare_cached(card, root, SIZE)
    assert read == []
    os.utime(file)
    at_rest(file)
    prepare_cached(card, root, SIZE)
    prepare_cached(card, root, SIZE)
    assert read == [1]
    prepare_cached(card, Path(os.path.relpath(root)), SIZE)  # the same place, written another way
    assert read == [1]


def test_change_that_keeps_size_and_mtime_is_noticed(save: Save, arrays: Arrays, quick_clock: None) -> None:
    card, root = save(arrays)
    file = root / "toy" / "data.npz"
    at_rest(file)
    prepare_cached(card, root, SIZE)
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(InvalidData, match="expected sha256"):
        prepare_cached(card, root, SIZE)
    file.unlink()
    with pytest.raises(InvalidInput, match="there is no file"):
        prepare_cached(card, root, SIZE)


def test_source_that_changed_just_now_is_not_relied_on(save: Save, arrays: Arrays, place: Path) -> None:
    card, root = save(arrays)
    prepare_cached(card, root, SIZE)
    assert cache.entries()
    assert not list(place.rglob("verified-*"))


@pytest.fixture
def folder(card: Card, tmp_path: Path) -> tuple[Card, Path]:
    """12 images in two class folders, one of them deeper, with the card of their checksum."""
    for index in range(12):
        path = tmp_path / "data" / "toy" / ("cold", "hot/deep")[index % 2] / f"p{index // 2}_{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 6), 7 * index, np.uint8)).save(path)
    made = replace(
        card, n_samples=12, n_groups=6, class_counts=(6, 6), format="image_folder", folder="toy", size=(6, 6),
        group_pattern=r"(p\d)_", keys={}, split=replace(card.split, folds=3),
    )  # fmt: skip
    with pytest.raises(InvalidInput) as told:
        prepare(made, tmp_path / "data", SIZE)
    return replace(made, tree_sha256=told.value.__notes__[0].split()[-1]), tmp_path / "data"


def test_every_file_of_a_folder_counts(
    folder: tuple[Card, Path], preparations: list[str], quick_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, root = folder
    first = root / "toy" / "cold" / "p0_0.png"
    at_rest(*(root / "toy").rglob("*"))
    plain = prepare_cached(card, root, SIZE)
    assert len(plain.read) == 12
    with monkeypatch.context() as patch:
        patch.setattr(FileTree, "read", lambda *_: pytest.fail("nothing was touched"))
        assert_same(prepare_cached(card, root, SIZE), plain)
    os.utime(first)
    (root / "toy" / "notes.txt").write_text("not in a class folder")
    assert_same(prepare_cached(card, root, SIZE), plain)
    assert len(preparations) == 1
    added = root / "toy" / "hot" / "p9_99.png"
    added.write_bytes(first.read_bytes())
    with pytest.raises(InvalidData, match="expected tree_sha256"):
        prepare_cached(card, root, SIZE)
    added.unlink()
    assert_same(prepare_cached(card, root, SIZE), plain)
    content = first.read_bytes()
    first.write_bytes(content[:-1])
    with pytest.raises(InvalidData):
        prepare_cached(card, root, SIZE)
    first.write_bytes(content)
    (root / "toy" / "cold" / ".hidden").touch()
    for _ in range(2):
        assert_same(prepare_cached(card, root, SIZE), plain)
    assert len(preparations) == 4  # the first, two refused, and once for the other listing of a directory


def test_source_that_changes_during_the_preparation_is_not_stored(
    folder: tuple[Card, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    card, root = folder

    def slow(*arguments: Any) -> PreparedDataset:
        done = prepare(*arguments)
        time.sleep(0.02)
        os.utime(root / "toy" / "cold" / "p0_0.png")
        return done

    monkeypatch.setattr(cache, "prepare", slow)
    prepare_cached(card, root, SIZE)
    assert cache.entries() == []


def test_many_processes_at_once_agree(save: Save, arrays: Arrays) -> None:
    card, root = save(arrays)
    plain = prepare(card, root, SIZE)
    with ProcessPoolExecutor(8, multiprocessing.get_context("fork")) as pool:
        for found in [pool.submit(prepare_cached, card, root, SIZE) for _ in range(24)]:
            assert_same(found.result(), plain)
    (entry,) = cache.entries()
    assert [path for path in entry.path.parent.iterdir() if path != entry.path] == []  # none left half-made


def test_threads_prepare_once(save: Save, arrays: Arrays, preparations: list[str]) -> None:
    card, root = save(arrays)
    plain = prepare(card, root, SIZE)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: prepare_cached(card, root, SIZE), range(24)):
            assert_same(found, plain)
    assert len(preparations) == 1


def test_without_a_usable_place_it_goes_on_with_one_note(
    save: Save, arrays: Arrays, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card, root = save(arrays)
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("MEDCURVES_CACHE", str(blocked))
    for _ in range(2):
        assert_same(prepare_cached(card, root, SIZE), prepare(card, root, SIZE))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"note: going on without a cache of prepared datasets ({blocked}")


def test_entry_of_a_read_only_cache_is_used(save: Save, arrays: Arrays, preparations: list[str]) -> None:
    card, root = save(arrays)
    prepare_cached(card, root, SIZE)
    (entry,) = cache.entries()
    mode = entry.path.stat().st_mode
    entry.path.chmod(mode & ~stat.S_IWUSR)
    prepare_cached(card, root, SIZE)
    entry.path.chmod(mode)
    assert len(preparations) == 1


def test_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_directory() == tmp_path / "cache"
    monkeypatch.setenv("MEDCURVES_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_directory() == Path("/x/medcurves")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_directory() == Path("/home/me/.cache/medcurves")


def test_command_shows_and_clears_only_entries(command: Callable[..., Any], place: Path) -> None:
    prepare_cached(load_card("phantom_nodules3d"), None, (8, 8, 8))
    (place / "prepared" / "mine").mkdir()
    shown = command("corpus-builder", "datasets", "cache")
    assert "phantom_nodules3d" in shown.stdout
    assert f"{place}: 1 entries, " in shown.stdout
    assert f"{place}: removed 1 entries" in command("corpus-builder", "datasets", "cache", "--clear").stdout
    assert os.listdir(place / "prepared") == ["mine"]
    assert f"{place}: 0 entries, 0.0 MB" in command("corpus-builder", "datasets", "cache").stdout
    nowhere = {"MEDCURVES_CACHE": "/proc/1/root"}
    if not os.access("/proc/1/root", os.R_OK):
        assert_one_line_error(command("corpus-builder", "datasets", "cache", env=nowhere), "cannot read the cache")
