"""The files of a dataset below one folder: none lies elsewhere, and one checksum is over all of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from corpus_builder.datasets.raw import RawDataset, refuse
from metaquery.errors import InvalidCard, InvalidData, InvalidInput

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card


def locate_folder(card: Card, data_root: Path | None) -> Path:
    """The directory `card.folder` below `data_root`; raises InvalidInput where it does not exist."""
    remedy = f"data card {card.name!r} ({card.source}); give the directory with --data-root or MEDCURVES_DATA"
    if data_root is None:
        raise InvalidInput(f"no data root given: expected a directory that holds {card.folder or 'images'} of {remedy}")
    folder = Path(data_root) / card.folder
    if not folder.is_dir():
        raise InvalidInput(f"there is no folder {folder}: expected {card.folder or 'the images'} of {remedy}")
    return folder


class FileTree:
    """The files of `card` below `folder`, as `locate_folder` gives it; `hashes` has the SHA-256 of each one read."""

    def __init__(self, card: Card, folder: Path) -> None:
        depth = len(Path(card.folder).parts)
        self.card = card
        self.folder = folder
        self.hashes: dict[str, str] = {}
        # Links are followed: a file may be inside the folder or inside the data root, wherever these really are.
        self._bounds = [Path(os.path.realpath(base)) for base in (folder, [folder, *folder.parents][depth])]

    def inside(self, path: str) -> Path:
        """Where `path` (relative to the folder) is; raises InvalidData for a path that leads elsewhere."""
        parts = Path(path).parts
        plain = "\0" not in path and ".." not in parts and not Path(path).is_absolute()
        whole = self.folder / path
        if not plain or not any(Path(os.path.realpath(whole)).is_relative_to(bound) for bound in self._bounds):
            raise InvalidData(f"expected a path inside {self.folder}, got {path!r}; move the file there")
        return whole

    def read(self, path: str) -> bytes:
        """The bytes of the file at `path`, which count in the checksum; raises InvalidData where there is none."""
        whole = self.inside(path)
        try:
            if not whole.is_file():
                raise InvalidData(f"there is no file {whole}; get it again or correct the path")
            content = whole.read_bytes()
        except OSError as error:
            raise InvalidData(f"{whole} cannot be read: {error.strerror or error}; see its permissions") from error
        self.hashes[path] = hashlib.sha256(content).hexdigest()
        return content

    def judge(self, raw: RawDataset, problems: Sequence[str], *, whole: bool) -> RawDataset:
        """`raw`, which was read with `problems` from files that are all in `hashes` where `whole`.

        Raises InvalidData where there are problems or the checksum over all files is not that of the card, with every
        problem as a note, and InvalidCard, with the checksum, where the card has none.
        """
        card, found = self.card, list(problems)
        tree = tree_sha256(self.hashes)
        if card.tree_sha256 and whole and tree != card.tree_sha256:
            found.append(
                f"{self.folder}: expected tree_sha256 {card.tree_sha256} as in data card {card.name!r}, got {tree} "
                f"over {len(self.hashes)} files; one was changed, added or removed: get them again or correct the card"
            )
        if found and not card.tree_sha256:
            found.append(
                f"data card {card.name!r}: expected tree_sha256, got none; it is told once the files can be read"
            )
        if found:
            refuse([*found, *(raw.problems(card) if raw.usable(card) else ())])
        if not card.tree_sha256:
            missing = (
                f"data card {card.name!r}: expected tree_sha256, the checksum over all files, got none; "
                f"the {len(self.hashes)} files below {self.folder} can be read, so add  tree_sha256: {tree}"
            )
            refuse([missing, *raw.problems(card)], InvalidCard)
        return replace(raw, read=self.hashes)


def tree_sha256(hashes: Mapping[str, str]) -> str:
    """SHA-256 over the lines that sha256sum prints for files with `hashes` (path to SHA-256), sorted by path."""
    digest = hashlib.sha256()
    for path in sorted(hashes, key=os.fsencode):
        digest.update(f"{hashes[path]}  ".encode() + os.fsencode(path) + b"\n")
    return digest.hexdigest()


def repeated(folder: Path, items: Sequence[tuple[str, str]], what: str = "image") -> list[str]:
    """A line for each of `items`, place and path below `folder`, whose path came before."""
    first: dict[str, str] = {}
    found = []
    for place, path in items:
        if path in first:
            found.append(
                f"{place}: expected each {what} once, but {folder / path} came before in {first[path]}; remove one"
            )
        first.setdefault(path, place)
    return found
