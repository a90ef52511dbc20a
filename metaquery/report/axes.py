"""The axes of a report: budgets, regrets and ranks."""

from __future__ import annotations

import math

from metaquery.drawing.axes import Axis, duration, log_ticks, seconds_ticks
from metaquery.evaluation.analysis import Analysis

FLOOR = 1e-3  # the smallest regret that a logarithmic axis shows; what is below stands on it

_REGRETS = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
_TITLES = {"seconds": "simulated time", "epochs": "newly trained epochs", "trials": "finished evaluations"}


def budget_axis(analysis: Analysis) -> Axis:
    """The budget so far, logarithmic, over the grid of the analysis."""
    low, high = float(analysis.grid[0]), float(analysis.grid[-1])
    ticks = seconds_ticks(low, high) if analysis.axis == "seconds" else log_ticks(low, high)
    return Axis(_TITLES[analysis.axis], low, high, ticks, log=True)


def budget_label(analysis: Analysis, value: float) -> str:
    """A point of the budget in words."""
    return duration(value) if analysis.axis == "seconds" else f"{value:,.0f} {analysis.axis}"


def regret_axis(title: str, lowest: float) -> Axis:
    """Regret, logarithmic, from 1 down to the decade of `lowest` or to FLOOR."""
    low = max(FLOOR, 10.0 ** math.floor(math.log10(max(lowest, FLOOR))))
    ticks = [(tick, f"≤ {tick:g}" if tick == FLOOR else f"{tick:g}") for tick in _REGRETS if tick >= low * 0.999]
    return Axis(title, low * 0.93, 1.07, ticks, log=True)


def rank_axis(title: str, n: int) -> Axis:
    """Average ranks of `n` optimizers, 1 on top."""
    last = max(n, 2)
    step = 1 + last // 12
    return Axis(title, last + 0.1, 0.9, [(rank, str(rank)) for rank in range(1, last + 1, step)])
