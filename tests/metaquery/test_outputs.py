"""Output directories appear whole or not at all, and never in the place of somebody else's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaquery.errors import InvalidInput
from metaquery.outputs import check_output, new_directory, write_json

KIND = {"marker": "made.json", "entries": frozenset({"made.json", "data"})}


def make(directory: Path, text: str) -> None:
    with new_directory(directory, **KIND) as new:
        write_json(new / "made.json", {"text": text})
        (new / "data").mkdir()


def test_a_directory_is_made_with_its_parents_and_replaced(tmp_path: Path) -> None:
    make(tmp_path / "a" / "b", "first")
    make(tmp_path / "a" / "b", "second")
    assert "second" in (tmp_path / "a" / "b" / "made.json").read_text()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty", "third")


def test_what_fails_halfway_leaves_the_earlier_one(tmp_path: Path) -> None:
    make(tmp_path / "out", "first")
    with pytest.raises(TypeError), new_directory(tmp_path / "out", **KIND) as new:
        write_json(new / "made.json", {"text": object()})
    assert "first" in (tmp_path / "out" / "made.json").read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["notes.txt"], r"already holds something else \(notes.txt\)"),
        (["made.json", "notes.txt"], r"already holds something else \(notes.txt\)"),
        (["data"], r"already holds something else \(files but no made.json\)"),
    ],
)
def test_other_files_are_left_alone(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        (tmp_path / name).write_text(name)
    with pytest.raises(InvalidInput, match=message):
        make(tmp_path, "mine")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(files)


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for name in ("file", "broken"):
        with pytest.raises(InvalidInput, match="is not a directory"):
            check_output(tmp_path / name, **KIND)
    with pytest.raises(InvalidInput, match=r"cannot be made, .*file is a file"):
        check_output(tmp_path / "file" / "below" / "it", **KIND)


def test_json_is_the_same_for_equal_documents(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"x": 1, "y": [1.5]})
    write_json(tmp_path / "b", {"y": [1.5], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("there", [True, False])
def test_what_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    if there:
        (tmp_path / "out").mkdir()
    monkeypatch.setattr("metaquery.outputs.os.access", lambda path, _mode: path not in (tmp_path, tmp_path / "out"))
    with pytest.raises(InvalidInput, match="is read-only for you"):
        check_output(tmp_path / "out", **KIND)
