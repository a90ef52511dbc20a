"""The figures of a diagnosis, by the names of its tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaquery.diagnostics.charts import Series, dots
from metaquery.diagnostics.curves import Estimate
from metaquery.drawing.axes import Axis, linear_axis, seconds_axis, share_axis
from metaquery.drawing.canvas import Drawing

Floats = NDArray[np.float64]
Row = dict[str, Any]


def figure(name: str, rows: Sequence[Row], metric: str) -> Drawing | None:
    """The figure of the table `name`, judged by `metric`; None where it has none or nothing in it is known."""
    draw = _FIGURES.get(name)
    return draw(rows, metric) if draw is not None and rows else None


def _fidelity(rows: Sequence[Row], _metric: str) -> Drawing | None:
    datasets = _distinct(rows, "dataset")
    found = {(row["dataset"], row["epoch"]): _estimate(row, "rank_correlation") for row in rows}
    series = {
        f"epoch {epoch}": [found.get((dataset, epoch)) for dataset in datasets]
        for epoch in sorted({row["epoch"] for row in rows})
    }
    return _drawn("rank correlation with the last epoch", datasets, series, linear_axis)


def _noise(rows: Sequence[Row], metric: str) -> Drawing | None:
    mine = [row for row in rows if (row["metric"], row["split"]) == (metric, "val")]
    series = {
        "over configs": [_estimate(row, "config_deviation", interval="") for row in mine],
        "over seeds": [_estimate(row, "seed_deviation", interval="seed") for row in mine],
        "over folds": [_estimate(row, "fold_deviation", interval="fold") for row in mine],
    }
    return _drawn(f"standard deviation of validation {metric}", _names(mine), series, _from_zero)


def _selection(rows: Sequence[Row], metric: str) -> Drawing | None:
    series = {
        "all configs": [_estimate(row, "gap", interval="") for row in rows],
        "best tenth": [_estimate(row, "gap_of_best_tenth", interval="") for row in rows],
    }
    return _drawn(
        f"validation minus test {metric}; above 0 validation promises too much", _names(rows), series, _with_zero
    )


def _importance(rows: Sequence[Row], _metric: str) -> Drawing | None:
    known: dict[str, list[float]] = {}
    for row in rows:
        if row["share"] is not None:
            known.setdefault(row["hyperparameter"], []).append(row["share"])
    ranked = sorted(known, key=lambda name: (-float(np.mean(known[name])), name))
    labels = [f"{name} ({len(known[name])})" for name in ranked]
    series = {
        "median": [Estimate(median(known[name]), min(known[name]), max(known[name])) for name in ranked],
    }
    title = "share of the variance: median and range over datasets (their number)"
    return _drawn(title, labels, series, _from_zero)


def _pretraining(rows: Sequence[Row], _metric: str) -> Drawing | None:
    series = {
        "best of as many trials": [_estimate(row, "pretrained_ahead", interval="") for row in rows],
        "one trial each": [_estimate(row, "pretrained_ahead_untuned", interval="") for row in rows],
    }
    labels = [f"{row['dataset']} (best of {row['drawn']})" for row in rows]
    return _drawn(
        "probability that pretrained is ahead on test", labels, series, lambda title, _values: share_axis(title)
    )


def _cost(rows: Sequence[Row], _metric: str) -> Drawing | None:
    known: dict[str, list[Row]] = {}
    for row in rows:
        if row["median"] is not None and row["least"] > 0:
            known.setdefault(row["backbone"], []).append(row)
    ranked = sorted(known, key=lambda name: (median(row["median"] for row in known[name]), name))
    series = {
        "median": [
            Estimate(
                median(row["median"] for row in known[name]),
                min(row["least"] for row in known[name]),
                max(row["most"] for row in known[name]),
            )
            for name in ranked
        ]
    }
    labels = [f"{name} ({sum(row['trials'] for row in known[name]):,})" for name in ranked]
    return _drawn("time of a trial: median and range over datasets (number of trials)", labels, series, seconds_axis)


def _drawn(title: str, labels: Sequence[str], series: Series, axis: Callable[[str, Floats], Axis]) -> Drawing | None:
    numbers = [number for values in series.values() for found in values if found is not None for number in found]
    known = np.array([number for number in numbers if not math.isnan(number)])
    return dots(title, labels, series, axis(title, known)) if len(known) else None


def _from_zero(title: str, values: Floats) -> Axis:
    """From 0 on, for what cannot be negative."""
    free = linear_axis(title, np.append(values, 0.0))
    return Axis(title, 0.0, free.high, [tick for tick in free.ticks if tick[0] >= 0])


def _with_zero(title: str, values: Floats) -> Axis:
    return linear_axis(title, np.append(values, 0.0))


def _estimate(row: Row, name: str, interval: str | None = None) -> Estimate | None:
    """The value called `name` with the interval called like it, or like `interval`; none for ""."""
    if row[name] is None:
        return None
    stem = name if interval is None else interval
    low, high = (row[f"{stem}_{end}"] if stem else None for end in ("low", "high"))
    return Estimate(row[name], math.nan if low is None else low, math.nan if high is None else high)


def _names(rows: Sequence[Row]) -> list[str]:
    return [row["dataset"] for row in rows]


def _distinct(rows: Iterable[Row], name: str) -> list[str]:
    return list(dict.fromkeys(row[name] for row in rows))


_FIGURES: dict[str, Callable[[Sequence[Row], str], Drawing | None]] = {
    "fidelity": _fidelity,
    "noise": _noise,
    "selection": _selection,
    "importance": _importance,
    "pretraining": _pretraining,
    "cost": _cost,
}
