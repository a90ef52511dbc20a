"""A table (CSV) of volumes, one sample per row, brought to arrays of one size as the card says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from corpus_builder.datasets.archive import locate_only
from corpus_builder.datasets.nifti import read_nifti
from corpus_builder.datasets.raw import RawDataset, own_groups
from corpus_builder.datasets.resize import resize, resize_masks
from corpus_builder.datasets.table import TableRow, image_columns, read_samples
from corpus_builder.datasets.tree import FileTree, locate_folder, repeated
from corpus_builder.datasets.volumes import (
    Volume,
    bounding_box,
    check_same_grid,
    percentile_limits,
    resample,
    to_bytes,
    to_dataset_axes,
)
from metaquery.errors import InvalidCard, InvalidData

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card, VolumeSpec

Reader = Callable[[FileTree, str], Volume]


class _Sample(NamedTuple):
    """`image` (channels, *size) uint8, `mask` (*size) or None, `spacing` (3,) in millimetres, as datasets have them."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None
    spacing: NDArray[np.float64]


def read_volumes(card: Card, data_root: Path | None, reader: Reader) -> RawDataset:
    """Read the volumes of the card's table in its order, each with `reader`, and their masks, which are NIfTI files.

    Every sample goes through the same steps: axes turned to RAS; cut to the box of its mask and `margin` millimetres
    around it (whole voxels of the scan, rounded up); resampled to `spacing`; mapped to 0..255 by a window or by the
    percentiles of the whole scan; resized to `size`. Raises InvalidInput where the table or the folder is missing,
    InvalidData for a table or volumes that are not as the card says and InvalidCard where it has no tree_sha256.
    """
    if card.volume is None:
        raise InvalidCard(f"data card {card.name!r}: format {card.format} needs the key volume; add it")
    table = locate_only(card, data_root)
    tree = FileTree(card, locate_folder(card, data_root))
    problems: list[str] = []
    rows = read_samples(card, table, problems)
    images = np.zeros((len(rows), len(image_columns(card)), *card.size), dtype=np.uint8)
    masks = np.zeros((len(rows), *card.size), dtype=np.bool_) if "masks" in card.keys else None
    spacing = np.ones((len(rows), 3))
    problems += repeated(tree.folder, [(row.place, ", ".join(filter(None, (*row.paths, row.mask)))) for row in rows])
    read = 0
    for index, row in enumerate(rows):
        try:
            sample = _sample(card.volume, card.size, row, tree, reader)
        except InvalidData as error:
            problems.append(f"{row.place}: {error}")
            continue
        images[index], spacing[index] = sample.image, sample.spacing
        if masks is not None and sample.mask is not None:
            masks[index] = sample.mask
        read += 1
    groups = [row.group for row in rows]
    raw = RawDataset(
        images=images[:, 0] if card.channels == 1 else np.moveaxis(images, 1, -1),
        labels=np.array([row.label for row in rows], dtype=np.int64),
        groups=np.array(groups) if any(groups) else own_groups(len(rows)),
        official_roles=np.array([row.role for row in rows]) if "split" in card.keys else None,
        origin=str(table),
        masks=masks,
        spacing=spacing,
    )
    return tree.judge(raw, problems, whole=read == len(rows))


def _sample(spec: VolumeSpec, size: tuple[int, ...], row: TableRow, tree: FileTree, reader: Reader) -> _Sample:
    volumes = [reader(tree, path) for path in row.paths]
    first, place = volumes[0], str(tree.folder / row.paths[0])
    for path, other in zip(row.paths[1:], volumes[1:], strict=True):
        check_same_grid(first, place, other, str(tree.folder / path))
    limits = list(spec.windows)
    if spec.percentiles is not None:
        limits = [percentile_limits(volume, spec.percentiles) for volume in volumes]
    channels = np.stack([volume.values for volume in volumes])
    region = _region(spec, row, tree, first, place) if row.mask else None
    old = first.spacing
    if spec.margin is not None and region is not None:
        box = bounding_box(region, spec.margin / old)
        channels, region = np.ascontiguousarray(channels[:, *box]), region[box]
    channels, region, new = resample(channels, region, old, np.array(spec.spacing[::-1]))
    pixels = np.stack([to_bytes(values, *pair) for values, pair in zip(channels, limits, strict=True)])
    shape = np.array(pixels.shape[:0:-1])  # (z, y, x)
    return _Sample(
        image=resize(to_dataset_axes(pixels)[None], size)[0],
        mask=None if region is None else resize_masks(to_dataset_axes(region)[None], size)[0],
        spacing=new[::-1] * shape / np.array(size),
    )


def _region(spec: VolumeSpec, row: TableRow, tree: FileTree, image: Volume, name: str) -> NDArray[np.bool_]:
    """The region of interest (x, y, z) on the grid of `image`, which `name` names in messages."""
    mask, mask_name = read_nifti(tree, row.mask), str(tree.folder / row.mask)
    check_same_grid(image, name, mask, mask_name)
    region = mask.values != 0 if spec.mask_label is None else mask.values == spec.mask_label
    if spec.margin is not None and not region.any():
        wanted = "a voxel that is not zero" if spec.mask_label is None else f"a voxel of label {spec.mask_label}"
        there = np.unique(mask.values)[:9].tolist()
        raise InvalidData(
            f"{mask_name}: expected {wanted} to cut the volume to, got only {there}; take the sample out, or correct "
            "the mask or the card's volume"
        )
    return np.asarray(region)
