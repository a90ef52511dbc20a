"""What can be made again is kept in MEDCURVES_CACHE, else XDG_CACHE_HOME/medcurves, else ~/.cache/medcurves.

A file there is written under another name and renamed, so it is whole or not there, and two processes that make the
same file at once do no harm. Beside it stands the SHA-256 of what was written: a file that differs is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from metaquery.errors import InvalidInput, MedCurvesError

_SETTLED = 2.0  # seconds after its last change from which on a file's times tell the next change


def cache_directory() -> Path:
    """Directory of all that is cached; raises InvalidInput where the user has no home directory."""
    if given := os.environ.get("MEDCURVES_CACHE"):
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medcurves"
    except RuntimeError as error:
        raise InvalidInput("there is no home directory for the cache: set MEDCURVES_CACHE to a directory") from error


def file_hash(path: Path) -> str:
    """SHA-256 of the file `path`, remembered in the cache for as long as its inode, size and times stay the same."""
    before = path.stat()
    found = [before.st_dev, before.st_ino, before.st_size, before.st_mtime_ns, before.st_ctime_ns]
    try:
        name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
        note: Path | None = cache_directory() / "hashes" / f"{name}.json"
    except InvalidInput:
        note = None
    if note is not None:
        try:
            known = json.loads(note.read_bytes())
            if known["file"] == found:
                return str(known["sha256"])
        except (OSError, ValueError, LookupError, TypeError):
            pass  # nothing known, or a damaged note: the file itself tells
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if note is not None and time.time() - max(before.st_mtime, before.st_ctime) > _SETTLED:
        _write(note, lambda file: file.write(json.dumps({"file": found, "sha256": digest}).encode()))
    return digest


def kept(path: Path) -> bool:
    """Whether the file `path` of the cache is there and is what was written."""
    try:
        return file_hash(path) == _digest_of(path).read_text()
    except (OSError, ValueError):
        return False


def keep(path: Path, write: Callable[[IO[bytes]], object]) -> bool:
    """Make the file `path` of the cache with `write`; False where the cache cannot be written."""
    digest = _write(path, write)
    return digest is not None and _write(_digest_of(path), lambda file: file.write(digest.encode())) is not None


def _digest_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> str | None:
    """Write `path` in one step; the SHA-256 of its content, None where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError:
        return None
    try:
        with open(descriptor, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(descriptor)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.rename(name, path)
    except MedCurvesError:
        raise
    except OSError:  # the disk is full
        return None
    finally:
        Path(name).unlink(missing_ok=True)
    return digest
