"""Prepared arrays kept on disk, so that preparing twice does nothing and all processes map one copy.

An entry is one directory of plain .npy files below PLACE/prepared, where PLACE is MEDCURVES_CACHE, else
XDG_CACHE_HOME/medcurves, else ~/.cache/medcurves. Three rules make it safe:

- Its name holds a content id of all that decides the arrays: the card without its words for people (it has the
  checksums of the source files), the size, the code of this package and the versions of what decodes and resizes.
- Its arrays are hashed in full each time it is opened. An entry that is cut off, altered or half-written is made again.
- Its sources were read in full once. From then on the size, the times of the last change of content (mtime) and of
  anything (ctime) and the inode of every file, and of the directories that lead to it, suffice while all are the same;
  else every source is hashed again, and the dataset prepared again where one differs. What changed less than two
  seconds before it was read does not suffice: a second change in the same tick of a clock leaves no trace.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from corpus_builder.datasets.cards import Card
from corpus_builder.datasets.prepare import FOR_PEOPLE, PreparedDataset, dataset_key, prepare
from corpus_builder.datasets.sources import Sources
from corpus_builder.files import PARTIAL, files_below
from metaquery.cache import cache_directory
from metaquery.errors import InvalidInput
from metaquery.space import content_id

_ARRAYS = ("images", "labels", "groups", "official_roles", "masks", "spacing")
_DECODERS = ("numpy", "scipy", "pillow", "nibabel", "pydicom")
_NAME = re.compile(rf"(?P<dataset>.+)-(?P<size>\d+(?:x\d+)*)-[0-9a-f]{{16}}(?:{re.escape(PARTIAL)}[0-9a-f]{{8}})?")
_RECORD = "entry.json"
_TICK_NS = 2 * 10**9  # the coarsest clock of a file system in use
# Threads would only prepare the same thing several times; and before Python 3.11.8 two that read the headers of NumPy's
# files at once may end in a SystemError (https://github.com/python/cpython/issues/106905). Processes need no lock.
_alone = threading.Lock()


@dataclass(frozen=True, slots=True)
class Entry:
    """A prepared dataset on disk, or what a killed process left of one."""

    path: Path
    dataset: str
    size: str
    n_bytes: int


def entries() -> list[Entry]:
    """What is in the cache, sorted by name; empty where there is none. Raises InvalidInput where it cannot be read."""
    place = _place()
    try:
        named = [(path, _NAME.fullmatch(path.name)) for path in (sorted(place.iterdir()) if place.is_dir() else ())]
        return [Entry(path, match["dataset"], match["size"], _n_bytes(path)) for path, match in named if match]
    except OSError as error:
        raise InvalidInput(f"cannot read the cache {place}: {error.strerror or error}; see its permissions") from error


def clear() -> list[Entry]:
    """Remove all entries, and nothing else that may lie there; returns them. Raises InvalidInput where one stays.

    What a process of this machine has mapped stays usable until it ends.
    """
    removed = entries()
    for entry in removed:
        try:
            shutil.rmtree(entry.path)
        except OSError as error:
            raise InvalidInput(f"cannot remove {entry.path}: {error.strerror or error}; see its permissions") from error
    return removed


def prepare_cached(card: Card, data_root: Path | None, size: tuple[int, ...]) -> PreparedDataset:
    """As `prepare`, with the same arrays, but read-only and mapped from the cache, where they are stored if not yet.

    Where the cache cannot be used, says so on stderr and goes on without it. Threads of one process do so one by one.
    """
    with _alone:
        return _prepare_cached(card, data_root, size)


def _prepare_cached(card: Card, data_root: Path | None, size: tuple[int, ...]) -> PreparedDataset:
    started = time.time_ns()
    try:
        path = _place() / f"{card.name}-{'x'.join(map(str, size))}-{_key(card, size)}"
        record = _record(path)
        if record is not None and _sources_are_those_of(path, record, card, data_root, started):
            found = _open(path, record, card)
            if found is not None:
                return found
    except (OSError, InvalidInput) as error:
        _note(error)
        return prepare(card, data_root, size)
    prepared = prepare(card, data_root, size)
    try:
        record = _store(path, prepared, data_root, started)
        return (record and _open(path, record, card)) or prepared
    except OSError as error:
        _note(error)
        return prepared


def _place() -> Path:
    return cache_directory() / "prepared"


def _key(card: Card, size: tuple[int, ...]) -> str:
    deciding = {name: value for name, value in asdict(card).items() if name not in FOR_PEOPLE}
    deciding["files"] = [[file.path, file.checksum] for file in card.files]
    return content_id({"dataset": dataset_key(card, size), "card": deciding, "code": _code(), "versions": _versions()})


@cache
def _code() -> str:
    """Digest of the modules that prepare datasets: changed code must never meet arrays that it did not make."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


@cache
def _versions() -> Mapping[str, str]:
    found = {}
    for name in _DECODERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # then no format that needs it can be read either
            found[name] = ""
    return found


def _record(path: Path) -> dict[str, Any] | None:
    """What the entry at `path` says of itself, or None where there is no whole record."""
    try:
        content = json.loads((path / _RECORD).read_bytes())
        record: dict[str, Any] = content["record"]
        return record if content_id(record) == content["id"] else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _open(path: Path, record: Mapping[str, Any], card: Card) -> PreparedDataset | None:
    """The dataset at `path`, its arrays mapped read-only, or None where one is not as it was stored."""
    arrays: dict[str, Any] = dict.fromkeys(_ARRAYS)
    try:
        for name, expected in record["arrays"].items():
            if _sha256(path / f"{name}.npy") != expected:
                return None
            arrays[name] = np.asarray(np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False))
    except FileNotFoundError:  # lost, or another process makes it again at this moment
        return None
    return PreparedDataset(card=card, class_names=card.classes, sha256=record["sha256"], read=record["read"], **arrays)


def _store(path: Path, prepared: PreparedDataset, data_root: Path | None, started: int) -> dict[str, Any] | None:
    """Write `prepared`, whose preparation began at `started`, beside `path` and rename it to `path`; its record.

    None, and nothing is written, where a source has changed meanwhile.
    """
    sources = Sources(prepared.card, data_root, prepared.read)
    partial = _beside(path)
    partial.mkdir(parents=True)
    try:
        arrays = {name: array for name in _ARRAYS if (array := getattr(prepared, name)) is not None}
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array, allow_pickle=False)
        record = {
            "arrays": {name: _sha256(partial / f"{name}.npy") for name in arrays},
            "sha256": prepared.sha256,
            "read": dict(prepared.read),
            "directories": sources.directories(),
        }
        (partial / _RECORD).write_text(json.dumps({"record": record, "id": content_id(record)}), encoding="utf-8")
        if sources.state().changed >= started:
            return None
        _remember(partial, sources, started)
        if _record(path) != record or _open(path, record, prepared.card) is None:  # else another process was quicker
            _replace(path, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def _replace(path: Path, partial: Path) -> None:
    """Rename the directory `partial` to `path`, away with what is there; another process may do the same."""
    aside = _beside(path)
    with suppress(FileNotFoundError):
        path.rename(aside)
    try:
        partial.rename(path)
    except OSError:
        if _record(path) is None:
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sources_are_those_of(
    path: Path, record: Mapping[str, Any], card: Card, data_root: Path | None, started: int
) -> bool:
    """Whether the sources are untouched since they were read in full, or the same when they are read again."""
    sources = Sources(card, data_root, record["read"])
    with suppress(OSError, UnicodeDecodeError):  # a source is missing, or they were never read below this data root
        if _memory(path, data_root).read_text(encoding="utf-8") == sources.state().digest:
            return True
    if not sources.same_again(record["directories"]):
        return False
    with suppress(OSError):  # a cache of others may be read-only
        _remember(path, sources, started)
    return True


def _remember(path: Path, sources: Sources, started: int) -> None:
    """Note in the entry at `path` that `sources` were read in full after `started`, if they were at rest by then."""
    state = sources.state()
    if state.changed < started - _TICK_NS:
        memory = _memory(path, sources.data_root)
        partial = _beside(memory)
        partial.write_text(state.digest, encoding="utf-8")
        partial.replace(memory)


def _memory(path: Path, data_root: Path | None) -> Path:
    """File that holds the state of the sources below `data_root`; copies of the sources elsewhere have their own."""
    return path / f"verified-{content_id(None if data_root is None else os.path.realpath(data_root))}"


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}{PARTIAL}{uuid.uuid4().hex[:8]}")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _n_bytes(path: Path) -> int:
    size = 0
    for file in files_below(path):
        with suppress(FileNotFoundError):  # another process has just removed or renamed it
            size += file.stat().st_size
    return size


def _note(error: OSError | InvalidInput) -> None:
    """Say once on stderr that the cache cannot be used; worker processes leave it to the process that started them."""
    if multiprocessing.parent_process() is None:
        reason = f"{_place()}: {error.strerror or error}" if isinstance(error, OSError) else str(error)
        _say(f"note: going on without a cache of prepared datasets ({reason}); MEDCURVES_CACHE can name another place")


@cache
def _say(text: str) -> None:
    print(text, file=sys.stderr)
