"""Output directories: made whole under a temporary name, then renamed, and never over somebody else's files."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metaquery.errors import InvalidInput

UNFINISHED = ".unfinished"  # in a directory whose entries are being replaced


def check_output(directory: Path, *, marker: str, entries: frozenset[str]) -> None:
    """Refuse `directory` unless it can be written and is absent, empty, or an earlier output of the same kind.

    The last is one that holds the file `marker` and nothing but `entries`.
    """
    if directory.is_dir():
        found = {item.name for item in directory.iterdir()}
        if not found or (marker in found and found <= entries):
            _check_writable(directory, directory)
            return
        strange = ", ".join(sorted(found - entries)[:3]) or f"files but no {marker}"
        raise InvalidInput(f"{directory} already holds something else ({strange}): choose another output directory")
    if directory.exists() or directory.is_symlink():
        raise InvalidInput(f"{directory} is not a directory: choose another output directory")
    parent = next(path for path in directory.absolute().parents if path.exists())
    if not parent.is_dir():
        raise InvalidInput(f"{directory} cannot be made, {parent} is a file: choose another output directory")
    _check_writable(directory, parent)


def _check_writable(directory: Path, place: Path) -> None:
    if not os.access(place, os.W_OK | os.X_OK):
        raise InvalidInput(f"{directory} cannot be written, {place} is read-only for you: choose another one")


@contextmanager
def new_directory(directory: Path, *, marker: str, entries: frozenset[str]) -> Iterator[Path]:
    """A temporary directory beside `directory` that takes its place when the block ends without an error."""
    check_output(directory, marker=marker, entries=entries)
    directory = directory.absolute()
    directory.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        new, old = work / "new", work / "old"
        new.mkdir()
        yield new
        check_output(directory, marker=marker, entries=entries)
        if directory.exists():
            directory.rename(old)
        new.rename(directory)
    finally:
        shutil.rmtree(work)


@contextmanager
def replaced_entries(directory: Path, *, last: str) -> Iterator[Path]:
    """A temporary directory in `directory` whose entries take the place of those there when the block ends well.

    Each is replaced as a whole, the one called `last` after all others; other entries of `directory`, which is made
    where it is not there, stay. What a killed process left of an earlier attempt is removed.
    """
    made = not directory.exists()
    work = directory / UNFINISHED
    shutil.rmtree(work, ignore_errors=True)
    new, old = work / "new", work / "old"
    new.mkdir(parents=True)
    old.mkdir()
    try:
        yield new
        for path in sorted(new.iterdir(), key=lambda path: (path.name == last, path.name)):
            target = directory / path.name
            if target.is_dir():  # only a file can be replaced in one step
                target.rename(old / path.name)
            path.replace(target)
    finally:
        shutil.rmtree(work)
        if made and not any(directory.iterdir()):
            directory.rmdir()


def write_json(path: Path, document: Any) -> None:
    """Write `document` as JSON that a person can read and that is the same for equal documents."""
    path.write_text(json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n")
