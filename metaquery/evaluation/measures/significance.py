"""Which differences between optimizers are more than chance: tests over datasets, as Demšar (JMLR 7, 2006) has them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from metaquery.evaluation.measures.ranks import mid_ranks
from metaquery.evaluation.measures.regret import Floats

ALPHA = 0.05
_EXACT = 50  # differences up to which the exact distribution is used


@dataclass(frozen=True, slots=True)
class CriticalDifference:
    """What a critical-difference diagram shows, all over datasets.

    `ranks` are average ranks, shape (optimizers,), 1 being best. `friedman` is the p-value of all being equal,
    `critical_difference` the Nemenyi distance of ranks at 5 %. `nemenyi` and `holm` are p-values of all pairs, shape
    (optimizers, optimizers), the second of Wilcoxon's signed-rank test with Holm's correction. The groups are those
    optimizers, by index and best first, of which no pair differs at 5 %: what a bar joins.
    """

    ranks: Floats
    friedman: float
    critical_difference: float
    nemenyi: Floats
    holm: Floats
    nemenyi_groups: tuple[tuple[int, ...], ...]
    holm_groups: tuple[tuple[int, ...], ...]


def critical_difference(values: Floats) -> CriticalDifference | None:
    """Ranks and tests from `values`, shape (optimizers, datasets), lower being better; None below two of either."""
    if min(values.shape) < 2:
        return None
    ranks = mid_ranks(values).mean(axis=1)
    nemenyi, holm = nemenyi_p(values), holm_wilcoxon(values)
    return CriticalDifference(
        ranks=ranks,
        friedman=friedman_p(values),
        critical_difference=nemenyi_distance(*values.shape),
        nemenyi=nemenyi,
        holm=holm,
        nemenyi_groups=groups(ranks, nemenyi),
        holm_groups=groups(ranks, holm),
    )


def friedman_p(values: Floats) -> float:
    """p-value of Friedman's test, corrected for ties, on `values` of shape (optimizers, datasets); 1 where all tie."""
    from scipy.special import chdtrc

    k, n = values.shape
    ranks = mid_ranks(values)
    spread = float(((ranks - (k + 1) / 2) ** 2).sum())
    if spread == 0.0:
        return 1.0
    between = float(((ranks.sum(axis=1) - n * (k + 1) / 2) ** 2).sum())
    return float(chdtrc(k - 1, (k - 1) * between / spread))


def nemenyi_distance(k: int, n: int) -> float:
    """How far apart two average ranks of `k` optimizers on `n` datasets must be to differ at 5 %."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(1 - ALPHA, k, np.inf) / math.sqrt(2)) * _rank_error(k, n)


def nemenyi_p(values: Floats) -> Floats:
    """p-values of Nemenyi's test for all pairs, shape (optimizers, optimizers), 1 on the diagonal."""
    from scipy.stats import studentized_range

    k, n = values.shape
    ranks = mid_ranks(values).mean(axis=1)
    result = np.ones((k, k))
    for i, j in combinations(range(k), 2):
        distance = abs(ranks[i] - ranks[j]) / _rank_error(k, n) * math.sqrt(2)
        result[i, j] = result[j, i] = float(studentized_range.sf(distance, k, np.inf)) if distance else 1.0
    return result


def holm_wilcoxon(values: Floats) -> Floats:
    """p-values of Wilcoxon's signed-rank test for all pairs with Holm's correction, shape (optimizers, optimizers).

    Pairs are over datasets, of `values` of shape (optimizers, datasets). Differences of zero are split evenly between
    the signs, as Demšar does.
    """
    k = len(values)
    result = np.ones((k, k))
    pairs = list(combinations(range(k), 2))
    found = np.array([_wilcoxon(values[i] - values[j]) for i, j in pairs])
    for (i, j), p in zip(pairs, holm(found).tolist(), strict=True):
        result[i, j] = result[j, i] = p
    return result


def holm(p: Floats) -> Floats:
    """p-values, shape (n,), corrected for being `n` tests by Holm's step-down method (1979)."""
    order = np.argsort(p, kind="stable")
    result = np.empty_like(p)
    result[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return result


def groups(ranks: Floats, p: Floats) -> tuple[tuple[int, ...], ...]:
    """The largest sets of neighbours in rank, two at least, of which no pair has a p-value below 5 %."""
    order = np.argsort(ranks, kind="stable").tolist()
    found: list[tuple[int, ...]] = []
    end = 0
    for start in range(len(order)):
        stop = start + 1
        while stop < len(order) and all(p[order[i], order[stop]] >= ALPHA for i in range(start, stop)):
            stop += 1
        if stop - start > 1 and stop > end:
            found.append(tuple(order[start:stop]))
            end = stop
    return tuple(found)


def corrected_resampled(differences: Floats, ratio: float) -> tuple[float, float, float, float]:
    """Mean of `differences`, shape (n,), the ends of its 95 % interval, and the p-value of it being zero.

    The t interval of Nadeau and Bengio (Machine Learning 52, 2003): folds that share training data are not
    independent, so the variance of the mean is that of the differences times 1 / n + `ratio`, the size of the test
    part over that of the training part. With a ratio of 0 it is the plain one. NaN but for the mean where n < 2.
    """
    from scipy.special import stdtr, stdtrit

    n = len(differences)
    mean = float(differences.mean())
    if n < 2:
        return mean, math.nan, math.nan, math.nan
    error = math.sqrt(float(differences.var(ddof=1)) * (1 / n + ratio))
    half = float(stdtrit(n - 1, 1 - ALPHA / 2)) * error
    if error == 0.0:
        return mean, mean, mean, float(mean == 0.0)
    return mean, mean - half, mean + half, 2 * float(stdtr(n - 1, -abs(mean) / error))


def _rank_error(k: int, n: int) -> float:
    return math.sqrt(k * (k + 1) / (6 * n))


def _wilcoxon(differences: NDArray[np.float64]) -> float:
    from scipy.stats import wilcoxon

    if not differences.any():
        return 1.0
    # Exact where the null distribution is that of the signs alone: no ties, no zeros.
    distinct = len(np.unique(np.abs(differences))) == len(differences) and bool(differences.all())
    method = "exact" if distinct and len(differences) <= _EXACT else "asymptotic"
    return float(wilcoxon(differences, zero_method="zsplit", method=method).pvalue)
