"""Getting the files of a card from the addresses that it gives: `corpus-builder datasets fetch`."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from corpus_builder.datasets.archive import locate
from corpus_builder.datasets.cards import Card, DataFile
from corpus_builder.datasets.download import AddressFailedError, ResumableDownload
from metaquery.errors import InvalidInput, MedCurvesError


class Watcher(Protocol):
    """What is told how fetching goes."""

    def say(self, text: str) -> None:
        """A line for people."""

    def progress(self, done: int, length: int | None) -> None:
        """Bytes of the current file that are there, and its length, if known."""


def fetch(card: Card, data_root: Path | None, watcher: Watcher, mirror: str | None = None) -> dict[str, bool]:
    """Get the files of `card` that are not below `data_root` yet; for each path, whether it was fetched just now.

    A file gets its name when it is whole and has the card's checksum; until then it is NAME.partial, which the next
    call continues. Tries below the address `mirror` (a copy of a data root, or of the files alone), then the card's
    addresses in their order. Several processes may fetch the same file: one works, the others wait for it. Raises
    InvalidInput where a file cannot be got or written, InvalidData where one that is there is another.
    """
    if data_root is None:
        raise InvalidInput(f"no data root given: where are the files of {card.name} to go? Use --data-root DIR")
    if mirror is not None and not mirror.startswith(("http://", "https://")):
        raise InvalidInput(f"the mirror {mirror!r} is not an address: expected http://... or https://...")
    if not card.files:
        where = f"in the folder {card.folder}" if card.folder else "generated"
        raise InvalidInput(f"data card {card.name!r} has no files to fetch: its images are {where} ({card.source})")
    return {file.path: _fetch_file(card, file, Path(data_root), watcher, mirror) for file in card.files}


def addresses(file: DataFile, mirror: str | None) -> list[str]:
    """Where `file` may be, in the order of trying."""
    paths = dict.fromkeys((file.path, file.path.rpartition("/")[2])) if mirror else ()
    return [*(f"{(mirror or '').rstrip('/')}/{quote(path)}" for path in paths), *file.urls]


def _fetch_file(card: Card, file: DataFile, data_root: Path, watcher: Watcher, mirror: str | None) -> bool:
    path = data_root / file.path
    if path.exists():
        locate(card, file, data_root)
        return False
    urls = addresses(file, mirror)
    by_hand = f"get it from {card.source} and put it at {path} ({file.checksum})"
    if not urls:
        raise InvalidInput(f"data card {card.name!r} gives no address of {file.path}: {by_hand}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.with_name(path.name + ".lock"), watcher.say):
            if path.exists():  # another process has fetched it meanwhile
                locate(card, file, data_root)
                return False
            failures = []
            for url in urls:
                if (failure := _try_address(url, file, path, watcher)) is None:
                    return True
                failures.append(f"{url}: {failure}")
                watcher.say(failures[-1])
    except OSError as error:
        raise InvalidInput(
            f"cannot write {path}: {error.strerror or error}; make room there or give another --data-root"
        ) from error
    raise InvalidInput(f"cannot fetch {file.path} of {card.name}: {'; '.join(failures)}; {by_hand}")


def _try_address(url: str, file: DataFile, path: Path, watcher: Watcher) -> str | None:
    """Get `file` from `url` to `path`; the reason where it does not come from there."""
    import pooch

    pooch.get_logger().setLevel("WARNING")  # the watcher says what pooch would
    watcher.say(f"{file.path}: from {url}")
    download = ResumableDownload(path.with_name(path.name + ".partial"), watcher.progress, watcher.say)
    try:
        pooch.retrieve(url, file.checksum, fname=path.name, path=path.parent.resolve(), downloader=download)
    except MedCurvesError:
        raise
    except AddressFailedError as error:
        return str(error)
    except ValueError:  # pooch on another checksum; it has removed the file
        return f"the content is not that of the card ({file.checksum})"
    return None


@contextmanager
def alone(lock: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold `lock` against other processes, and remove it afterwards; it dies with the process."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{lock.with_suffix('')}: another process is fetching it; waiting")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(lock, descriptor):
            break
        os.close(descriptor)  # its holder has removed it, so what we hold is no longer the lock
    try:
        yield
    finally:
        lock.unlink()
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
