"""Datasets of one image per file: reading with Pillow, resizing, groups."""

from __future__ import annotations

import io
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

from corpus_builder.datasets.raw import RawDataset, own_groups
from corpus_builder.datasets.resize import resize
from corpus_builder.datasets.tree import FileTree, repeated
from metaquery.errors import InvalidData

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
    tree = FileTree(card, folder)
    found = [*problems, *repeated(folder, [(file.place, file.path) for file in files])]
    shape = (*card.size, card.channels) if card.channels > 1 else card.size
    images = np.empty((len(files), *shape), dtype=np.uint8)
    for index, file in enumerate(files):
        try:
            content = tree.read(file.path)
        except InvalidData as error:
            found.append(f"{file.place}: {error}")
            continue
        try:
            pixels = decode(content, card.channels, str(folder / file.path))
        except InvalidData as error:
            found.append(str(error))
            continue
        channels_first = pixels[None, None] if card.channels == 1 else np.moveaxis(pixels, -1, 0)[None]
        resized = resize(channels_first, card.size)[0]
        images[index] = resized[0] if card.channels == 1 else np.moveaxis(resized, 0, -1)
    groups = [file.group for file in files]
    raw = RawDataset(
        images=images,
        labels=np.array([file.label for file in files], dtype=np.int64),
        groups=np.array(groups) if any(groups) else own_groups(len(files)),
        official_roles=np.array([file.role for file in files]) if official else None,
        origin=str(folder),
    )
    return tree.judge(raw, found, whole=len(tree.hashes) == len({file.path for file in files}))


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
