"""Dot charts as SVG that follows the page's colours: one line per row, one mark per series, one axis for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

SERIES = ("#0072b2", "#d55e00", "#009e73")  # apart for the colour-blind (Okabe and Ito)
_PLOT, _LINE, _TOP, _CHARACTER = 500, 20, 26, 7.2


def dots(
    labels: Sequence[str], series: Mapping[str, Sequence[float | None]], *, axis: str, logarithmic: bool = False
) -> str:
    """A chart of `series`, each with a value, or None, for every one of `labels`; empty where there is no value.

    On a logarithmic axis values that are not positive are left out.
    """
    drawn = {name: [_drawn(value, logarithmic) for value in values] for name, values in series.items()}
    known = [value for values in drawn.values() for value in values if value is not None]
    if not known:
        return ""
    left = 20 + _CHARACTER * max(map(len, labels))
    width, bottom = left + _PLOT + 30, _TOP + _LINE * len(labels)
    ticks = _powers(min(known), max(known)) if logarithmic else _round_ticks(min([*known, 0.0]), max([*known, 0.0]))
    scale = _Scale(ticks[0], ticks[-1], logarithmic, left)
    parts = [f'<svg viewBox="0 0 {width:.0f} {bottom + 40}" role="img" aria-label="{escape(axis)}">']
    for tick in ticks:
        x = scale(tick)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{left + _PLOT / 2:.1f}" y="{bottom + 34}" text-anchor="middle">{escape(axis)}</text>')
    for row, label in enumerate(labels):
        y = _TOP + _LINE * (row + 0.5)
        parts.append(f'<text x="{left - 10:.1f}" y="{y + 4}" text-anchor="end">{escape(label)}</text>')
        for at, (name, values) in enumerate(drawn.items()):
            if (value := values[row]) is not None:
                title = f"<title>{escape(label)}, {escape(name)}: {value:.3g}</title>"
                parts.append(_mark(at, scale(value), y, title))
    for at, name in enumerate(series):
        x = left + 160 * at
        parts.append(_mark(at, x + 5, 10, "") + f'<text x="{x + 16}" y="14">{escape(name)}</text>')
    return "".join([*parts, "</svg>"])


class _Scale:
    def __init__(self, low: float, high: float, logarithmic: bool, left: float) -> None:
        self._of: Callable[[float], float] = math.log10 if logarithmic else float
        self._low, self._span, self._left = self._of(low), self._of(high) - self._of(low), left

    def __call__(self, value: float) -> float:
        return self._left + (self._of(value) - self._low) / self._span * _PLOT


def _drawn(value: float | None, logarithmic: bool) -> float | None:
    shown = value is not None and math.isfinite(value) and (value > 0 or not logarithmic)
    return value if shown else None


def _mark(at: int, x: float, y: float, title: str) -> str:
    """Circle, diamond or square, so that print in black and white keeps them apart."""
    colour = f'fill="{SERIES[at % len(SERIES)]}"'
    shapes = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" {colour}>{title}</circle>',
        f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" {colour} '
        f'transform="rotate(45 {x:.1f} {y:.1f})">{title}</rect>',
        f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" {colour}>{title}</rect>',
    )
    return shapes[at % len(shapes)]


def _round_ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers from at most `low` to at least `high`."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 7)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, max(last, first + 1) + 1)]


def _powers(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]
