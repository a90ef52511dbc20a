"""Entropy of shares, and the number of directions that a spectrum stands for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def entropy(shares: NDArray[np.float64]) -> float:
    """Entropy of `shares`, which sum to 1, in nats."""
    positive = shares[shares > 0]
    return float(-np.sum(positive * np.log(positive)))


def effective_rank(spectrum: NDArray[np.float64]) -> float:
    """Exponential of the entropy of a normalised PCA spectrum (Roy and Vetterli, EUSIPCO 2007).

    From 1, one direction of variation, up to the number of samples less 1; 0 where all samples are alike.
    """
    total = spectrum.sum()
    return float(np.exp(entropy(spectrum / total))) if total > 0 else 0.0
