"""Locating a dataset's files below the data root and opening npz archives safely."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidCard, InvalidData, InvalidInput

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card, DataFile


def locate(card: Card, file: DataFile, data_root: Path | None) -> Path:
    """Path of `file`, which must exist and have the SHA-256 that the card gives.

    Raises InvalidInput where it is missing and InvalidData where its content is another.
    """
    return locate_file(file, data_root, name=card.name, source=card.source)


def locate_file(file: DataFile, data_root: Path | None, *, name: str, source: str) -> Path:
    """As `locate`, where only the `name` and the `source` of the card are known."""
    remedy = f"data card {name!r} ({source}); give the directory with --data-root or MEDCURVES_DATA"
    if data_root is None:
        raise InvalidInput(f"no data root given: expected a directory that holds {file.path} of {remedy}")
    path = Path(data_root) / file.path
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}: expected {file.path} of {remedy}")
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}; see its permissions") from error
    if found != file.sha256:
        raise InvalidData(
            f"{path}: expected sha256 {file.sha256} as in data card {name!r}, got {found} "
            f"({path.stat().st_size} bytes); the file is damaged or another version, get it again"
        )
    return path


def locate_only(card: Card, data_root: Path | None) -> Path:
    """Path of the one file of `card`; InvalidCard where it has several. Otherwise as `locate`."""
    if len(card.files) != 1:
        raise InvalidCard(
            f"data card {card.name!r}: format {card.format} expects one file, got {len(card.files)}; correct files"
        )
    return locate(card, card.files[0], data_root)


def read_arrays(path: Path, keys: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """The arrays of the npz at `path` that `keys` names (purpose to key), by purpose. Never unpickles.

    Raises InvalidData where the archive is damaged, a key is missing or an array holds Python objects.
    """
    try:
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InvalidData(f"{path}: expected an npz archive, got a single array; save it with numpy.savez")
            missing = sorted(set(keys.values()) - set(archive.files))
            if missing:
                raise InvalidData(
                    f"{path}: expected the arrays {missing}, got only {sorted(archive.files)}; "
                    "correct the card's keys or get the file again"
                )
            arrays = {purpose: archive[key] for purpose, key in keys.items()}
    except InvalidData:
        raise
    except (OSError, EOFError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise InvalidData(
            f"{path}: expected an npz archive of plain arrays, but it cannot be read ({detail}); get the file again"
        ) from error
    if scalars := [keys[purpose] for purpose, array in arrays.items() if array.ndim == 0]:
        raise InvalidData(f"{path}: expected one row per sample, got single values in {scalars}; get the file again")
    return arrays


def as_labels(array: NDArray[Any], path: Path) -> NDArray[np.int64]:
    """`array`, of shape (n,) or (n, 1), as int64 labels (n,); InvalidData where it does not hold integers."""
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if flat.dtype.kind not in "iub" or flat.ndim != 1:
        raise InvalidData(
            f"{path}: expected one whole number per sample as label, got {array.dtype} of shape {array.shape}; "
            "store class indices from 0"
        )
    return flat.astype(np.int64)
