"""Statistics of the intensities in a region, without regard to where they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NAMES = (
    *("mean", "std", "skewness", "kurtosis", "minimum", "p10", "p25", "median", "p75", "p90", "maximum"),
    *("mean_absolute_deviation", "root_mean_square", "entropy", "uniformity"),
)


def first_order(values: NDArray[np.float64], histogram: NDArray[np.float64]) -> NDArray[np.float64]:
    """The statistics NAMES of `values`, (n,), and of the shares of their grey levels, `histogram` (levels,).

    Entropy is in bits, kurtosis that of a normal distribution is 0; both and skewness are 0 where all values are the
    same. All are NaN where there is no value.
    """
    if not len(values):
        return np.full(len(NAMES), np.nan)
    mean = values.mean()
    centred = values - mean
    squares = centred * centred
    variance = squares.mean()
    flat = variance <= 1e-12 * max(1.0, mean * mean)  # only rounding tells the values apart
    skewness = 0.0 if flat else (squares * centred).mean() / variance**1.5
    kurtosis = 0.0 if flat else (squares * squares).mean() / variance**2 - 3.0
    shares = histogram[histogram > 0]
    return np.array(
        [
            mean,
            np.sqrt(variance),
            skewness,
            kurtosis,
            *np.quantile(values, (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)),
            np.abs(centred).mean(),
            np.sqrt(variance + mean * mean),
            -(shares * np.log2(shares)).sum(),
            (shares * shares).sum(),
        ]
    )
