"""Files are found and written while other processes remove and write theirs."""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path

from corpus_builder.files import files_below


def make_and_remove(directory: Path, done: object) -> None:
    while not done.is_set():  # type: ignore[attr-defined]
        (directory / "a" / "b").mkdir(parents=True)
        (directory / "a" / "b" / "x.rows").touch()
        shutil.rmtree(directory / "a")


def test_files_are_found_while_another_process_makes_and_removes_directories(tmp_path: Path) -> None:
    kept = tmp_path / "kept" / "deep" / "y.rows"
    kept.parent.mkdir(parents=True)
    kept.touch()
    (tmp_path / "kept" / "y.rows.txt").touch()
    context = multiprocessing.get_context("spawn")
    done = context.Event()
    other = context.Process(target=make_and_remove, args=(tmp_path, done))
    other.start()
    try:
        seen = set()
        while len(seen) < 2:  # until its file was there once and was not there once
            found = files_below(tmp_path, "*.rows")
            assert set(found) - {tmp_path / "a" / "b" / "x.rows"} == {kept}
            seen.add(len(found))
        for _ in range(2000):
            files_below(tmp_path, "*.rows")
    finally:
        done.set()
        other.join()


def test_files_are_sorted_and_all_where_no_pattern_is_given(tmp_path: Path) -> None:
    names = ["b/z", "a", "b/c/d.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)] == sorted(names)
    assert files_below(tmp_path / "absent") == []
