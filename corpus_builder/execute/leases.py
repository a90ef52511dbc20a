"""Leases: who works on what in a directory that several processes, perhaps on several machines, share.

A lease is the file NAME.GENERATION. Whoever creates generation 1 holds it; whoever finds its holder dead takes over by
creating the next generation, which the file system lets only one process do. A holder that was taken for dead, but
lives, sees the newer generation before it stores anything, and stores nothing.

No clock of any machine is asked when something happened, so that neither skew nor jumps matter. A holder is dead when
the kernel has dropped its lock on the file, which a process of the same machine can see at once, or when its file has
not been touched for MISSED_BEATS of its beats, measured by the monotonic clock of the process that watches.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from metaquery.errors import InvalidInput

MISSED_BEATS = 12
BEAT_SECONDS = 5.0
_POLL_SECONDS = 0.05


class LeaseLost(Exception):
    """Another process has taken this one for dead and its lease over."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lease, and how often it promises to touch it."""

    host: str = "an unknown host"
    pid: int = 0
    beat_seconds: float = BEAT_SECONDS
    machine: str = ""  # empty where its file system has no locks

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(slots=True)
class Lease:
    """A lease that this process holds until `release`; it must be `kept` if that takes longer than a few seconds."""

    path: Path
    beat_seconds: float
    _content: bytes
    _descriptor: int

    def held(self) -> bool:
        """Whether nobody has taken it over."""
        try:
            return self.path.read_bytes() == self._content and self.path == _newest(self.path)
        except OSError:
            return False

    def check(self) -> None:
        """Raise LeaseLost where somebody has taken it over: to be called before anything is stored."""
        if not self.held():
            raise LeaseLost(self.path.name)

    @contextmanager
    def kept(self, at_each_beat: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Keep it alive from a thread of its own, and give it back in the end."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(self.beat_seconds):
                with suppress(OSError):  # a beat that the file system refuses is a missed one
                    os.utime(self._descriptor)
                at_each_beat()

        thread = threading.Thread(target=beat, name=f"heart of {self.path.name}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self.release()

    def release(self) -> None:
        """Give it back."""
        with suppress(OSError):
            if self.path.read_bytes() == self._content:
                self.path.unlink()
        os.close(self._descriptor)


@dataclass(slots=True)
class Leases:
    """The leases in `directory`, which is made when the first is claimed."""

    directory: Path
    _seen: dict[Path, tuple[tuple[int, int], float]] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Every lease that there is, held by a living process or a dead one."""
        return sorted({path.stem for path in _files(self.directory)})

    def holder(self, name: str) -> Holder | None:
        """The living holder of `name`; None where there is none.

        A process on another machine that has died counts as living until this has been asked for long enough.
        """
        path = _newest(self.directory / f"{name}.0")
        try:
            with path.open("rb") as file:  # opening makes a network file system ask its server
                status = os.fstat(file.fileno())
                holder = _holder(file.read())
                if holder.machine == _machine() and _is_unlocked(file.fileno()):
                    return None
        except FileNotFoundError:
            return None
        stamp, now = (status.st_mtime_ns, status.st_ino), time.monotonic()
        known, since = self._seen.get(path, (None, now))
        if known != stamp:
            self._seen[path] = (stamp, now)
        return holder if known != stamp or now - since < MISSED_BEATS * holder.beat_seconds else None

    def generation(self, name: str) -> int:
        """The newest generation of `name`, 0 where nobody holds it: what `claim` needs when `holder` is None."""
        return _generation(_newest(self.directory / f"{name}.0"))

    def claim(self, name: str, after: int, beat_seconds: float = BEAT_SECONDS) -> Lease | None:
        """Become the holder of `name`, as the next generation `after` one whose holder is dead, or after none (0).

        None where another process was quicker. Raises InvalidInput where the directory cannot be written.
        """
        path = self.directory / f"{name}.{after + 1}"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput(f"cannot write {self.directory}: {error.strerror}") from error
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return None
        except OSError as error:
            raise InvalidInput(f"cannot write {path}: {error.strerror}") from error
        try:
            machine = _machine() if _lock(descriptor) else ""
            owner = {"host": socket.gethostname(), "pid": os.getpid(), "beat_seconds": beat_seconds, "machine": machine}
            content = json.dumps({**owner, "id": uuid.uuid4().hex}).encode()
            os.write(descriptor, content)
            os.fsync(descriptor)
        except OSError as error:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise InvalidInput(f"cannot write {path}: {error.strerror}") from error
        lease = Lease(path, beat_seconds, content, descriptor)
        if not lease.held():  # it was free because a newer generation had replaced it
            lease.release()
            return None
        self.clear(name, through=after)
        return lease

    def clear(self, name: str, through: int) -> None:
        """Remove the generations of `name` up to one whose holder is dead."""
        for path in _generations(self.directory / f"{name}.0"):
            if _generation(path) <= through:
                path.unlink(missing_ok=True)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Hold `name`, after waiting for whoever holds it."""
        while (lease := None if self.holder(name) else self.claim(name, self.generation(name))) is None:
            time.sleep(_POLL_SECONDS)
        with lease.kept():
            yield


def _generations(path: Path) -> list[Path]:
    """The files of all generations of the lease that `path` is one of."""
    return [other for other in _files(path.parent) if other.stem == path.stem]


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.suffix[1:].isdigit()] if directory.is_dir() else []


def _generation(path: Path) -> int:
    return int(path.suffix[1:])


def _newest(path: Path) -> Path:
    return max(_generations(path), key=_generation, default=path)


def _holder(content: bytes) -> Holder:
    """What the file of a lease says; a process that was stopped before it could write says nothing."""
    try:
        said = json.loads(content)
        return Holder(said["host"], said["pid"], said["beat_seconds"], said["machine"])
    except (ValueError, KeyError, TypeError):
        return Holder()


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # a file system without locks
        return False
    return True


def _is_unlocked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@cache
def _machine() -> str:
    """This boot of this machine: locks of its processes are known to one kernel, whatever container they run in."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()
