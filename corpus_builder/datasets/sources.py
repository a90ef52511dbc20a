"""The files that a dataset was made from: whether they are still the same, told quickly where nothing was touched."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from corpus_builder.datasets.archive import locate
from corpus_builder.datasets.cards import Card
from corpus_builder.datasets.tree import FileTree, locate_folder
from metaquery.errors import MedCurvesError


class State(NamedTuple):
    """What the file system says of all sources, as a digest, and when the last of them changed, in ns."""

    digest: str
    changed: int


@dataclass(frozen=True, slots=True)
class Sources:
    """The files of `card` and those that were `read` below its folder (path there to SHA-256), below `data_root`."""

    card: Card
    data_root: Path | None
    read: Mapping[str, str]

    def state(self) -> State:
        """Size, mtime, ctime and inode of all files and of the directories that lead to those that were read.

        Raises OSError where one is missing.
        """
        names = [file.path for file in self.card.files]
        names += [str(Path(self.card.folder, name)) for name in (*self.read, *self._leading())]
        lines, changed = [], 0
        for name in names:
            found = (self._root / name).stat()
            changed = max(changed, found.st_mtime_ns, found.st_ctime_ns)
            lines.append(os.fsencode(name))
            lines.append(f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}".encode())
        return State(_digest(lines), changed)

    def directories(self) -> dict[str, str]:
        """Digest of the names in each directory, below the card's folder, that leads to a file that was read."""
        folder = self._root / self.card.folder
        return {name: _digest(map(os.fsencode, sorted(os.listdir(folder / name)))) for name in self._leading()}

    def same_again(self, directories: Mapping[str, str]) -> bool:
        """Whether all files, read in full, and `directories` are as before; False also where one cannot be read."""
        try:
            for file in self.card.files:
                locate(self.card, file, self.data_root)
            if self.read:
                tree = FileTree(self.card, locate_folder(self.card, self.data_root))
                for name in self.read:
                    tree.read(name)
                return tree.hashes == self.read and self.directories() == directories
        except (MedCurvesError, OSError):
            return False
        return True

    @property
    def _root(self) -> Path:
        return Path(self.data_root or "")

    def _leading(self) -> list[str]:
        return sorted({parent.as_posix() for name in self.read for parent in Path(name).parents if parent.parts})


def _digest(lines: Iterable[bytes]) -> str:
    return hashlib.sha256(b"\0".join(lines)).hexdigest()
