"""Axes of charts: scales, ticks that people like, and their labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metaquery.drawing.canvas import text_width

Floats = NDArray[np.float64]

_SECONDS = (0.1, 0.2, 0.5, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 36000, 86400, 259200, 864000)
_FINE_SECONDS = tuple(
    n * unit
    for unit, some in ((1, (1, 2, 5, 10, 20, 30)), (60, (1, 2, 5, 10, 20, 30, 40)), (3600, (1, 1.5, 2, 3, 5, 10)))
    for n in some
)


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis is called, its ends in values, and its ticks, a value and a label each; ends may be either way."""

    title: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    log: bool = False

    def along(self, values: Floats, start: float, end: float) -> Floats:
        """Where `values` are in pixels on an axis from `start` to `end`; what is beyond an end is drawn there."""
        inside = np.clip(values, min(self.low, self.high), max(self.low, self.high))
        if self.log:
            share = np.log(inside / self.low) / math.log(self.high / self.low)
        else:
            share = (inside - self.low) / (self.high - self.low)
        result: Floats = start + share * (end - start)
        return result

    def thinned(self, length: float, size: float) -> list[tuple[float, str]]:
        """The ticks, or so many of them that their labels do not touch along `length` pixels."""
        for step in range(1, len(self.ticks) + 1):
            kept = self.ticks[::step]
            places = self.along(np.array([value for value, _ in kept]), 0, length)
            halves = [text_width(label, size) / 2 for _, label in kept]
            gaps = np.diff(places)
            if all(gap > a + b + 6 for gap, a, b in zip(gaps, halves, halves[1:], strict=False)):
                return list(kept)
        return list(self.ticks[:1])


def share_axis(title: str) -> Axis:
    """Shares from 0 to 1."""
    return Axis(title, 0.0, 1.0, [(tick / 4, f"{tick / 4:g}") for tick in range(5)])


def seconds_axis(title: str, values: Floats) -> Axis:
    """Durations, logarithmic, with room around `values`."""
    low, high = float(values.min()) / 1.35, float(values.max()) * 1.35
    return Axis(title, low, high, seconds_ticks(low, high), log=True)


def linear_axis(title: str, values: Floats) -> Axis:
    """Numbers, with room around `values` and ticks at round ones."""
    spread = max(float(values.max() - values.min()), 1e-3)
    low, high = float(values.min()) - 0.2 * spread, float(values.max()) + 0.2 * spread
    power = 10.0 ** math.floor(math.log10(high - low))
    steps = (power * n for n in (5, 2, 1, 0.5, 0.2))  # the largest with three ticks
    step = next(step for step in steps if math.floor(high / step) - math.ceil(low / step) >= 2)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step), math.floor(high / step)
    ticks = [
        (min(max(n * step, low), high), f"{n * step:.{digits}f}") for n in range(first, last + 1)
    ]  # rounding apart
    return Axis(title, low, high, ticks)


def seconds_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round durations from `low` to `high`, at least two."""
    for nice in (_SECONDS, _FINE_SECONDS):
        ticks = [(float(tick), duration(tick)) for tick in nice if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) >= 3:
            return ticks
    return [(tick, duration(tick)) for tick, _ in log_ticks(low, high)]


def log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round numbers from `low` to `high` for a logarithmic axis; its ends where there are fewer than two."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [n * 10.0**power for power in powers for n in (1, 2, 5)]
    inside = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
    return [(tick, f"{tick:,.10g}") for tick in (inside if len(inside) >= 2 else [low, high])]


def duration(seconds: float) -> str:
    """A duration in its natural unit, with three digits."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
