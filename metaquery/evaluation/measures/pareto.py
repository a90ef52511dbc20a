"""Trade-offs between two things to minimise, such as 1 - AUC and cost."""

from __future__ import annotations

import numpy as np

from metaquery.evaluation.measures.regret import Floats


def front(points: Floats) -> Floats:
    """The points that no other one is at least as good as in both, by the first coordinate, shape (n_front, 2).

    `points` has the shape (n, 2); of equal points one is kept.
    """
    ordered: Floats = points[np.lexsort((points[:, 1], points[:, 0]))]
    if not len(ordered):
        return ordered
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(ordered[:-1, 1])])
    kept: Floats = ordered[ordered[:, 1] < best_before]
    return kept


def hypervolume(points: Floats, reference: tuple[float, float]) -> float:
    """Area that `points`, shape (n, 2), dominate within `reference`; 0 where no point is better than it in both.

    Zitzler and Thiele (1999), exact in two dimensions.
    """
    inside = points[(points < np.asarray(reference)).all(axis=1)] if len(points) else points
    kept = front(inside)
    if not len(kept):
        return 0.0
    widths = np.diff(np.append(kept[:, 0], reference[0]))
    return float(widths @ (reference[1] - kept[:, 1]))
