"""Datasets of one image per file: reading with Pillow, resizing, groups, and one checksum over all files."""

from __future__ import annotations

import hashlib
import io
import os
import re
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corpus_builder.datasets.raw import RawDataset, own_groups, refuse
from corpus_builder.datasets.resize import resize
from metaquery.errors import InvalidCard, InvalidData, InvalidInput

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card

_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})  # at most 8 bits per channel
# What Pillow's decoders raise for bytes that make no image.
_DAMAGE = (OSError, EOFError, SyntaxError, ValueError, LookupError, TypeError, OverflowError, struct.error, zlib.error)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image of a dataset: its path below the folder, the place that names it, for messages, and what it is.

    `group` is the empty string where each image is its own group, and `role` where there is no official split.
    """

    path: str
    place: str
    label: int
    group: str = ""
    role: str = ""


def locate_folder(card: Card, data_root: Path | None) -> Path:
    """The directory `card.folder` below `data_root`; raises InvalidInput where it does not exist."""
    remedy = f"data card {card.name!r} ({card.source}); give the directory with --data-root or MEDCURVES_DATA"
    if data_root is None:
        raise InvalidInput(f"no data root given: expected a directory that holds {card.folder or 'images'} of {remedy}")
    folder = Path(data_root) / card.folder
    if not folder.is_dir():
        raise InvalidInput(f"there is no folder {folder}: expected {card.folder or 'the images'} of {remedy}")
    return folder


def labels_by_source_name(card: Card) -> Mapping[str, int]:
    """Label of each name that the source, a folder or a table, has for a class."""
    return {card.source_names.get(name, name): label for label, name in enumerate(card.classes)}


def group_of(card: Card, name: str, path: str, problems: list[str]) -> str:
    """What `card.group_pattern` captures in `name`; the empty string, and a line in `problems`, where nothing."""
    if not card.group_pattern:
        return ""
    match = re.search(card.group_pattern, name)
    group = match.group(1) if match else None
    if not group:
        problems.append(
            f"{path}: expected a group in {name!r} by the group_pattern {card.group_pattern!r}, got none; "
            "rename the file or correct the pattern"
        )
    return group or ""


def read_images(
    card: Card, folder: Path, files: Sequence[ImageFile], problems: Sequence[str], *, official: bool
) -> RawDataset:
    """Read `files` below `folder`, as `locate_folder` gives it, in their order: (n, h, w) or (n, h, w, 3) of one size.

    Refuses them where there are `problems` already (they come first), a file comes twice, lies elsewhere or is no
    whole 8-bit image, or the checksum over all files is not that of the card: InvalidData, with every problem as a
    note, or InvalidCard where the card has no checksum.
    """
    found, hashes = list(problems), dict[str, str]()
    found += _repeated(folder, files)
    depth = len(Path(card.folder).parts)
    bounds = [Path(os.path.realpath(base)) for base in (folder, [folder, *folder.parents][depth])]  # links are followed
    shape = (*card.size, card.channels) if card.channels > 1 else card.size
    images = np.empty((len(files), *shape), dtype=np.uint8)
    for index, file in enumerate(files):
        try:
            content = _content(file, folder, bounds)
            hashes[file.path] = hashlib.sha256(content).hexdigest()
            pixels = decode(content, card.channels, str(folder / file.path))
        except InvalidData as error:
            found.append(str(error))
            continue
        channels_first = pixels[None, None] if card.channels == 1 else np.moveaxis(pixels, -1, 0)[None]
        resized = resize(channels_first, card.size)[0]
        images[index] = resized[0] if card.channels == 1 else np.moveaxis(resized, 0, -1)
    readable = len(hashes) == len({file.path for file in files})
    tree = tree_sha256(hashes)
    if card.tree_sha256 and readable and tree != card.tree_sha256:
        found.append(
            f"{folder}: expected tree_sha256 {card.tree_sha256} as in data card {card.name!r}, got {tree} over "
            f"{len(hashes)} images; one was changed, added or removed: get them again or correct the card"
        )
    groups = [file.group for file in files]
    raw = RawDataset(
        images=images,
        labels=np.array([file.label for file in files], dtype=np.int64),
        groups=np.array(groups) if any(groups) else own_groups(len(files)),
        official_roles=np.array([file.role for file in files]) if official else None,
        origin=str(folder),
    )
    if found and not card.tree_sha256:
        found.append(f"data card {card.name!r}: expected tree_sha256, got none; it is told once the images can be read")
    if found:
        refuse([*found, *(raw.problems(card) if raw.usable(card) else ())])
    if not card.tree_sha256:
        missing = (
            f"data card {card.name!r}: expected tree_sha256, the checksum over all images, got none; "
            f"the {len(hashes)} images below {folder} can be read, so add  tree_sha256: {tree}"
        )
        refuse([missing, *raw.problems(card)], InvalidCard)
    return raw


def decode(content: bytes, channels: int, path: str) -> NDArray[np.uint8]:
    """The image in `content` as (h, w) grey, for one channel, or (h, w, 3) RGB; `path` names it in messages.

    Colour becomes grey by the luma of ITU-R BT.601, grey becomes three equal channels, transparency is dropped, and
    an orientation tag is not applied. Raises InvalidData for anything but one whole image of 8 bits per channel.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on metadata; what matters is whether the pixels can be read
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                if (frames := getattr(image, "n_frames", 1)) != 1:
                    raise InvalidData(f"{path}: expected one image, got {frames} frames; store each in its own file")
                if image.mode not in _MODES:
                    raise InvalidData(
                        f"{path}: expected an image of 8 bits per channel, got Pillow's mode {image.mode}; "
                        "convert it to 8 bits with the window that suits it"
                    )
                whole = image.convert("RGBA") if image.mode in ("P", "PA") else image  # a palette may be transparent
                return np.array(whole.convert("L" if channels == 1 else "RGB"))
    except InvalidData:
        raise
    except UnidentifiedImageError as error:
        raise InvalidData(
            f"{path}: expected an image that Pillow reads (png, jpg, tif, bmp), got something else; "
            "remove it or get it again"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidData(f"{path}: expected an image of usual size, got {error}; reduce it before") from error
    except _DAMAGE as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise InvalidData(f"{path}: the image is damaged or cut off ({detail}); get it again") from error


def tree_sha256(hashes: Mapping[str, str]) -> str:
    """SHA-256 over the lines that sha256sum prints for files with `hashes` (path to SHA-256), sorted by path."""
    digest = hashlib.sha256()
    for path in sorted(hashes, key=os.fsencode):
        digest.update(f"{hashes[path]}  ".encode() + os.fsencode(path) + b"\n")
    return digest.hexdigest()


def _content(file: ImageFile, folder: Path, bounds: Sequence[Path]) -> bytes:
    """The bytes of `file`, which must be inside one of `bounds`: the folder or the data root, links resolved."""
    path, parts = folder / file.path, Path(file.path).parts
    plain = "\0" not in file.path and ".." not in parts and not Path(file.path).is_absolute()
    if not plain or not any(Path(os.path.realpath(path)).is_relative_to(bound) for bound in bounds):
        raise InvalidData(f"{file.place}: expected a path inside {folder}, got {file.path!r}; move the file there")
    try:
        if not path.is_file():
            raise InvalidData(f"{file.place}: there is no file {path}; get it again or correct the path")
        return path.read_bytes()
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror or error}; see its permissions") from error


def _repeated(folder: Path, files: Sequence[ImageFile]) -> list[str]:
    first: dict[str, ImageFile] = {}
    return [
        f"{file.place}: expected each image once, but {folder / file.path} came before in {before.place}; remove one"
        for file in files
        if (before := first.setdefault(file.path, file)) is not file
    ]
