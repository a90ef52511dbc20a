"""Physical size: millimetres between neighbours, and of a whole sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from corpus_builder.metafeatures.descriptor import Descriptor, Undefined
from corpus_builder.metafeatures.part import TrainingPart


def _spacing(part: TrainingPart) -> NDArray[np.float64]:
    """Median spacing of each axis at the size of the images, (n_dims,), in millimetres."""
    if part.spacing is None:
        raise Undefined("the dataset does not tell the spacing of its images")
    return np.asarray(np.median(part.spacing, axis=0))


def _extent(part: TrainingPart) -> NDArray[np.float64]:
    """Length of a sample along each axis, (n_dims,), in millimetres."""
    return _spacing(part) * part.images.shape[2:]


def anisotropy(part: TrainingPart) -> float:
    """The widest spacing over the narrowest."""
    spacing = _spacing(part)
    return float(spacing.max() / spacing.min())


_OF_AXES = "of the axes' median spacings, mm at the size of the images"

DESCRIPTORS = (
    Descriptor("spacing_min", f"Least {_OF_AXES}", lambda part: _spacing(part).min()),
    Descriptor("spacing_median", f"Median {_OF_AXES}", lambda part: float(np.median(_spacing(part)))),
    Descriptor("spacing_max", f"Greatest {_OF_AXES}", lambda part: _spacing(part).max()),
    Descriptor("spacing_anisotropy", "Greatest over least of the axes' median spacings; 1 for cubes", anisotropy),
    Descriptor(
        "extent_min", "Physical length of a sample along its shortest axis, mm", lambda part: _extent(part).min()
    ),
    Descriptor(
        "extent_max", "Physical length of a sample along its longest axis, mm", lambda part: _extent(part).max()
    ),
)
