"""Locating a dataset's files below the data root and opening npz archives safely."""

from __future__ import annotations

import hashlib
import math
import os
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidCard, InvalidData, InvalidInput

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card, DataFile

_BLOCK_BYTES = 2**20


def locate(card: Card, file: DataFile, data_root: Path | None) -> Path:
    """Path of `file`, which must exist and have the checksum that the card gives.

    Raises InvalidInput where it is missing and InvalidData where its content is another.
    """
    return locate_file(file, data_root, name=card.name, source=card.source)


def locate_file(file: DataFile, data_root: Path | None, *, name: str, source: str) -> Path:
    """As `locate`, where only the `name` and the `source` of the card are known."""
    remedy = f"data card {name!r} ({source}); give the directory with --data-root or MEDCURVES_DATA"
    if file.urls:
        remedy += f", or get it: corpus-builder datasets fetch {name} --data-root {data_root or 'DIR'}"
    if data_root is None:
        raise InvalidInput(f"no data root given: expected a directory that holds {file.path} of {remedy}")
    path = Path(data_root) / file.path
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}: expected {file.path} of {remedy}")
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, hashlib.sha256 if file.sha256 else _md5).hexdigest()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}; see its permissions") from error
    expected = file.sha256 or file.md5
    if found != expected:
        raise InvalidData(
            f"{path}: expected {'sha256' if file.sha256 else 'md5'} {expected} as in data card {name!r}, got {found} "
            f"({path.stat().st_size} bytes); the file is damaged or another version, remove it and get it again"
        )
    return path


def _md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)


def locate_only(card: Card, data_root: Path | None) -> Path:
    """Path of the one file of `card`, beside its split table; InvalidCard where it has others. Else as `locate`."""
    files = [file for file in card.files if file.path != card.split.file]
    if len(files) != 1:
        raise InvalidCard(
            f"data card {card.name!r}: format {card.format} expects one file, got {len(files)}; correct files"
        )
    return locate(card, files[0], data_root)


def read_arrays(path: Path, keys: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """The arrays of the npz at `path` that `keys` names (purpose to key), by purpose. Never unpickles.

    Raises InvalidData where the archive is damaged, a key is missing or an array holds Python objects.
    """
    with _opened(path, keys.values()) as archive:
        arrays = {purpose: archive[key] for purpose, key in keys.items()}
    if scalars := [keys[purpose] for purpose, array in arrays.items() if array.ndim == 0]:
        raise InvalidData(f"{path}: expected one row per sample, got single values in {scalars}; get the file again")
    return arrays


def read_stacked(path: Path, keys: Sequence[str]) -> tuple[NDArray[np.uint8], list[int]]:
    """The uint8 arrays of the npz at `path` under `keys`, joined along their first axis, and the length of each.

    Each is unpacked into its place, so that memory holds the samples once. Raises InvalidInput where this machine has
    less memory than that and InvalidData where the archive is damaged or the arrays do not fit together.
    """
    with _opened(path, keys) as archive:
        headers = [_header(archive, key) for key in keys]
        if others := {key: str(dtype) for key, (_, _, dtype) in zip(keys, headers, strict=True) if dtype != np.uint8}:
            raise InvalidData(f"{path}: expected samples of type uint8, got {others}; get the file again")
        shapes = [shape[1:] for shape, _, _ in headers]
        if len(set(shapes)) > 1 or not all(shape for shape, _, _ in headers):
            raise InvalidData(f"{path}: expected samples of one shape in all roles, got {shapes}; get the file again")
        lengths = [shape[0] for shape, _, _ in headers]
        _require_memory(sum(lengths) * math.prod(shapes[0]), path)
        stacked = np.empty((sum(lengths), *shapes[0]), dtype=np.uint8)
        start = 0
        for key, length, (_, fortran_order, _) in zip(keys, lengths, headers, strict=True):
            part = stacked[start : start + length]
            start += length
            if fortran_order:
                part[:] = archive[key]
            else:
                _read_into(archive, key, part)
    return stacked, lengths


@contextmanager
def _opened(path: Path, keys: Collection[str]) -> Iterator[np.lib.npyio.NpzFile]:
    """The npz at `path`, which must have `keys`; damage that is found while it is open becomes InvalidData."""
    try:
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InvalidData(f"{path}: expected an npz archive, got a single array; save it with numpy.savez")
            if missing := sorted(set(keys) - set(archive.files)):
                raise InvalidData(
                    f"{path}: expected the arrays {missing}, got only {sorted(archive.files)}; "
                    "correct the card's keys or get the file again"
                )
            yield archive
    except InvalidInput:
        raise
    except (OSError, EOFError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise InvalidData(
            f"{path}: expected an npz archive of plain arrays, but it cannot be read ({detail}); get the file again"
        ) from error


def _header(archive: np.lib.npyio.NpzFile, key: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the order is Fortran's, and type of the array `key`."""
    with archive.zip.open(f"{key}.npy") as member:
        return _header_at(member)


def _header_at(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    first = np.lib.format.read_magic(member) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(member)
    return shape, fortran_order, dtype


def _read_into(archive: np.lib.npyio.NpzFile, key: str, part: NDArray[np.uint8]) -> None:
    """Unpack the array `key`, which is in C order, into `part`."""
    target = part.reshape(-1).data
    with archive.zip.open(f"{key}.npy") as member:
        _header_at(member)
        done = 0
        while block := member.read(_BLOCK_BYTES):  # to the end, where zipfile compares the checksum
            target[done : done + len(block)] = block
            done += len(block)
    if done < len(target):
        raise EOFError(f"{key} ends after {done} of {len(target)} bytes")


def _require_memory(needed: int, path: Path) -> None:
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > installed:
        raise InvalidInput(
            f"{path}: its samples take {needed / 1e9:.1f} GB of memory and this machine has {installed / 1e9:.1f} GB; "
            "use a dataset of smaller images or a machine with more memory"
        )


def as_labels(array: NDArray[Any], path: Path) -> NDArray[np.int64]:
    """`array`, of shape (n,) or (n, 1), as int64 labels (n,); InvalidData where it does not hold integers."""
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if flat.dtype.kind not in "iub" or flat.ndim != 1:
        raise InvalidData(
            f"{path}: expected one whole number per sample as label, got {array.dtype} of shape {array.shape}; "
            "store class indices from 0"
        )
    return flat.astype(np.int64)
