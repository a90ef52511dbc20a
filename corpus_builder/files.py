"""Files that other processes write and remove meanwhile: writing them whole or not at all, and finding them."""

from __future__ import annotations

import fnmatch
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metaquery.errors import InvalidInput

PARTIAL = ".partial-"  # in the name of every file that is not finished


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success flush it to disk and rename it to `path`, else remove it."""
    partial = path.with_name(f"{path.name}{PARTIAL}{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_directory(path.parent)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def files_below(directory: Path, pattern: str = "*") -> list[Path]:
    """The files in `directory` and all directories below whose names match `pattern`, sorted; none where it is absent.

    A directory that another process removes meanwhile is as one that was never there: `Path.glob` raises
    FileNotFoundError for it before Python 3.13.
    """
    found = ((Path(folder), names) for folder, _, names in os.walk(directory))
    return sorted(folder / name for folder, names in found for name in fnmatch.filter(names, pattern))


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
