"""Counts, balance, intensities and variation of the pixels. Intensities are shares of full scale."""

from __future__ import annotations

from functools import partial
from math import prod

import numpy as np

from corpus_builder.metafeatures.descriptor import Descriptor
from corpus_builder.metafeatures.entropy import effective_rank, entropy
from corpus_builder.metafeatures.part import TrainingPart

_LEVELS = np.arange(256) / 255


def class_balance_entropy(part: TrainingPart) -> float:
    """Entropy of the class shares over its maximum: 1 for equal classes; 0 where there is one class."""
    return entropy(part.class_shares) / np.log(len(part.class_shares)) if len(part.class_shares) > 1 else 0.0


def intensity_mean(part: TrainingPart) -> float:
    """Mean intensity."""
    return _central_moment(part, 1, about=0.0)


def intensity_std(part: TrainingPart) -> float:
    """Standard deviation of the intensity."""
    return float(np.sqrt(_variance(part)))


def intensity_skewness(part: TrainingPart) -> float:
    """Third standardised moment of the intensity; 0 for constant images."""
    variance = _variance(part)
    return _central_moment(part, 3, intensity_mean(part)) / variance**1.5 if variance > 0 else 0.0


def intensity_kurtosis(part: TrainingPart) -> float:
    """Fourth standardised moment of the intensity minus 3, that of a normal distribution; 0 for constant images."""
    variance = _variance(part)
    return _central_moment(part, 4, intensity_mean(part)) / variance**2 - 3.0 if variance > 0 else 0.0


def intensity_percentile(part: TrainingPart, percent: int) -> float:
    """The smallest intensity that at least `percent` per cent of all values do not exceed."""
    cumulated = np.cumsum(part.histogram)
    return float(_LEVELS[np.searchsorted(cumulated * 100, percent * cumulated[-1])])


def foreground_share(part: TrainingPart) -> float:
    """Share of values above the threshold of Otsu (1979) over the whole part; 0 for constant images."""
    below = np.cumsum(part.histogram)
    mass = np.cumsum(part.histogram * np.arange(256))
    above = below[-1] - below
    valid = (below > 0) & (above > 0)
    if not valid.any():
        return 0.0
    gap = mass[valid] / below[valid] - (mass[-1] - mass[valid]) / above[valid]
    between = below[valid].astype(np.float64) * above[valid] * gap**2
    return float(above[valid][np.argmax(between)] / below[-1])


def gradient_energy(part: TrainingPart) -> float:
    """Mean squared difference between neighbours along the spatial axes: how much fine texture there is."""
    total, count = part.squared_differences
    return total / (count * 255**2) if count else 0.0


def _central_moment(part: TrainingPart, order: int, about: float) -> float:
    return float(np.sum(part.histogram * (_LEVELS - about) ** order) / part.histogram.sum())


def _variance(part: TrainingPart) -> float:
    """Variance of the intensity, from whole-number sums, so that constant images have exactly 0."""
    n = int(part.histogram.sum())
    first, second = (int(np.sum(part.histogram * np.arange(256) ** order)) for order in (1, 2))
    return (n * second - first**2) / (n * 255) ** 2


DESCRIPTORS = (
    Descriptor("n_train", "Samples of the training part", lambda part: len(part.images)),
    Descriptor("n_groups_train", "Groups (patients) of the training part", lambda part: part.n_groups),
    Descriptor("n_classes", "Classes that occur", lambda part: len(part.class_shares)),
    Descriptor(
        "class_balance_entropy",
        "Entropy of the class shares over its maximum; 1 for equal classes",
        class_balance_entropy,
    ),
    Descriptor("minority_share", "Share of the rarest class", lambda part: part.class_shares.min()),
    Descriptor("n_dims", "Spatial dimensions", lambda part: part.images.ndim - 2),
    Descriptor("channels", "Channels of a sample", lambda part: part.images.shape[1]),
    Descriptor("voxels", "Pixels or voxels of a channel", lambda part: prod(part.images.shape[2:])),
    Descriptor("intensity_mean", "Mean intensity, of full scale", intensity_mean),
    Descriptor("intensity_std", "Standard deviation of the intensity, of full scale", intensity_std),
    Descriptor("intensity_skewness", "Third standardised moment of the intensity", intensity_skewness),
    Descriptor("intensity_kurtosis", "Fourth standardised moment of the intensity less 3", intensity_kurtosis),
    *(
        Descriptor(
            f"intensity_p{percent:02d}",
            f"Intensity that {percent} per cent of all values do not exceed, of full scale",
            partial(intensity_percentile, percent=percent),
        )
        for percent in (1, 5, 25, 50, 75, 95, 99)
    ),
    Descriptor("foreground_share", "Share of values above the threshold of Otsu", foreground_share),
    Descriptor("gradient_energy", "Mean squared difference between neighbours, of full scale", gradient_energy),
    Descriptor(
        "effective_rank", "Independent directions in which the pixels vary", lambda part: effective_rank(part.spectrum)
    ),
)
