"""The registry of descriptors: one name, one function of the training part. Intensities are shares of full scale."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod

import numpy as np
from numpy.typing import NDArray

from corpus_builder.metafeatures.part import TrainingPart

_LEVELS = np.arange(256) / 255


def class_balance_entropy(part: TrainingPart) -> float:
    """Entropy of the class shares over its maximum: 1 for equal classes; 0 where there is one class."""
    return _entropy(part.class_shares) / np.log(len(part.class_shares)) if len(part.class_shares) > 1 else 0.0


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


def effective_rank(part: TrainingPart) -> float:
    """Exponential of the entropy of the normalised PCA spectrum of the pixels (Roy and Vetterli, EUSIPCO 2007).

    From 1, one direction of variation, up to the number of samples less 1; 0 where all samples are alike.
    """
    total = part.spectrum.sum()
    return float(np.exp(_entropy(part.spectrum / total))) if total > 0 else 0.0


def _entropy(shares: NDArray[np.float64]) -> float:
    positive = shares[shares > 0]
    return float(-np.sum(positive * np.log(positive)))


def _central_moment(part: TrainingPart, order: int, about: float) -> float:
    return float(np.sum(part.histogram * (_LEVELS - about) ** order) / part.histogram.sum())


def _variance(part: TrainingPart) -> float:
    """Variance of the intensity, from whole-number sums, so that constant images have exactly 0."""
    n = int(part.histogram.sum())
    first, second = (int(np.sum(part.histogram * np.arange(256) ** order)) for order in (1, 2))
    return (n * second - first**2) / (n * 255) ** 2


DESCRIPTORS: dict[str, Callable[[TrainingPart], float]] = {
    "n_train": lambda part: len(part.images),
    "n_groups_train": lambda part: part.n_groups,
    "n_classes": lambda part: len(part.class_shares),
    "class_balance_entropy": class_balance_entropy,
    "minority_share": lambda part: part.class_shares.min(),
    "n_dims": lambda part: part.images.ndim - 2,
    "channels": lambda part: part.images.shape[1],
    "voxels": lambda part: prod(part.images.shape[2:]),
    "intensity_mean": intensity_mean,
    "intensity_std": intensity_std,
    "intensity_skewness": intensity_skewness,
    "intensity_kurtosis": intensity_kurtosis,
    **{
        f"intensity_p{percent:02d}": partial(intensity_percentile, percent=percent)
        for percent in (1, 5, 25, 50, 75, 95, 99)
    },
    "foreground_share": foreground_share,
    "gradient_energy": gradient_energy,
    "effective_rank": effective_rank,
}
