"""One folder of images per class, below the card's `folder`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from corpus_builder.datasets.images import ImageFile, group_of, labels_by_source_name, read_images
from corpus_builder.datasets.tree import locate_folder

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card
    from corpus_builder.datasets.raw import RawDataset


def read(card: Card, data_root: Path | None) -> RawDataset:
    """Read all files at any depth of the class folders, but those whose name begins with a dot.

    The order is that of the classes, then of the paths. Other folders are left alone. Raises InvalidInput where the
    folder is missing, InvalidData for files that are not as the card says and InvalidCard where it has no tree_sha256.
    """
    folder = locate_folder(card, data_root)
    problems: list[str] = []
    files = []
    for name, label in labels_by_source_name(card).items():
        place = f"{folder / name}, class {card.classes[label]!r}"
        names = files_below(folder / name, problems)
        if not (folder / name).is_dir():
            there = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
            problems.append(f"{place}: there is no such folder, only {there}; correct source_names or get the images")
        elif not names:
            problems.append(f"{place}: expected images, but the folder is empty; get them or leave out the class")
        for below in names:
            path = os.path.normpath(f"{name}/{below}")
            group = group_of(card, below, str(folder / path), problems)
            files.append(ImageFile(path, place, label, group))
    return read_images(card, folder, files, problems, official=False)


def files_below(folder: Path, problems: list[str]) -> list[str]:
    """Paths of the files below `folder`, with slashes, sorted; adds a line to `problems` for a closed folder."""
    found = []

    def closed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):  # the caller has a better line for these
            problems.append(f"{error.filename} cannot be read: {error.strerror}; see its permissions")

    for directory, folders, names in os.walk(folder, onerror=closed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(directory, name).relative_to(folder).as_posix() for name in names if not name.startswith(".")]
    return sorted(found)
