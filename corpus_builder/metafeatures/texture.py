"""Texture: grey-level co-occurrence (Haralick et al., IEEE Trans. SMC 1973) and local binary patterns.

Both are of two-dimensional images, so that 2-D and 3-D datasets can be compared: a volume is seen as evenly spaced
slices over its last two axes, whose counts are added. Colour is averaged, and grey levels are shares of full scale.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from corpus_builder.metafeatures.descriptor import Descriptor, Undefined
from corpus_builder.metafeatures.entropy import entropy
from corpus_builder.metafeatures.part import TrainingPart
from corpus_builder.metafeatures.slices import slices

_SAMPLES = 256
_LEVELS = 32
_DISTANCES = (1, 2, 4)
_ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
_PATTERNS = 10  # rotation-invariant uniform patterns of eight neighbours (Ojala et al., IEEE TPAMI 2002)


def grey_slices(part: TrainingPart) -> NDArray[np.uint8]:
    """The slices that texture is measured on, (samples, slices, height, width), of a bounded subset of the samples."""
    images = slices(part.images[part.ranked[:_SAMPLES]])
    return np.asarray(images.astype(np.uint16).sum(axis=2) // images.shape[2]).astype(np.uint8)


def cooccurrence_statistics(part: TrainingPart) -> dict[str, float]:
    """The descriptors `glcm_*`: each of one sample, distance and angle, averaged over all of them."""
    from skimage.feature import graycomatrix, graycoprops

    images = part.shared(grey_slices)
    distances = [distance for distance in _DISTANCES if distance < min(images.shape[2:])]
    if not distances:
        raise Undefined("the images are too small to have neighbours along both axes")
    levels = images // np.uint8(256 // _LEVELS)
    totals: dict[str, float] = dict.fromkeys((*_PROPERTIES, "entropy"), 0.0)
    for sample in levels:
        counts = sum(graycomatrix(image, distances, _ANGLES, _LEVELS, symmetric=True).astype(float) for image in sample)
        shares = counts / counts.sum(axis=(0, 1))
        for name in _PROPERTIES:
            totals[name] += float(graycoprops(shares, name).mean())
        totals["entropy"] -= float((shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=(0, 1)).mean())
    return {name: total / len(levels) for name, total in totals.items()}


def pattern_entropy(part: TrainingPart) -> float:
    """Entropy of the local binary patterns over its maximum; it does not change where intensities are stretched.

    Pixels at the border are left out, as they lack neighbours.
    """
    from skimage.feature import local_binary_pattern

    if min(part.images.shape[-2:]) < 3:
        raise Undefined("the images are too small to have pixels inside of a border")
    counts = np.zeros(_PATTERNS, dtype=np.int64)
    for image in part.shared(grey_slices).reshape(-1, *part.images.shape[-2:]):
        codes = local_binary_pattern(image, 8, 1, method="uniform")[1:-1, 1:-1].astype(np.int64)
        counts += np.bincount(codes.ravel(), minlength=_PATTERNS)
    return entropy(counts / counts.sum()) / float(np.log(_PATTERNS))


_PROPERTIES = {
    "contrast": "Mean squared difference of neighbouring grey levels, of 32",
    "homogeneity": "Closeness of neighbouring grey levels, the mean of 1 / (1 + squared difference)",
    "energy": "Root of the summed squared shares of pairs of grey levels; 1 for constant images",
    "correlation": "Correlation of neighbouring grey levels; 1 for constant images",
}


def _statistic(part: TrainingPart, name: str) -> float:
    return part.shared(cooccurrence_statistics)[name]


DESCRIPTORS = (
    *(
        Descriptor(f"glcm_{name}", meaning, partial(_statistic, name=name))
        for name, meaning in {
            **_PROPERTIES,
            "entropy": "Entropy of the pairs of neighbouring grey levels, nats",
        }.items()
    ),
    Descriptor(
        "lbp_entropy", "Entropy of local binary patterns over its maximum, whatever the contrast", pattern_entropy
    ),
)
