"""The charts that a report is made of, as drawings: steps over time, points with a front, matrices, rank diagrams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from metaquery.drawing.axes import Axis
from metaquery.drawing.canvas import Canvas, Drawing, Hover, Points, colour, dashes, shortened, text_width
from metaquery.evaluation.analysis import Band
from metaquery.evaluation.measures.regret import Floats

SIZE = (540.0, 330.0)
SMALL = (270.0, 180.0)
_LEGEND_ROW = 18.0


@dataclass(frozen=True, slots=True)
class Steps:
    """The lines of a chart: one band per label over `x`, in the order of the series; NaN where there is no interval."""

    x: Floats
    labels: Sequence[str]
    bands: Sequence[Band]
    at: Sequence[str]  # each x in words


@dataclass(frozen=True, slots=True)
class _Frame:
    left: float
    top: float
    right: float
    bottom: float


def steps_chart(title: str, steps: Steps, x: Axis, y: Axis) -> Drawing:
    """Lines that hold their value until the next change, with their bands, a legend and titles."""
    canvas = Canvas()
    width, height = SIZE
    y_labels = max(text_width(label) for _, label in y.ticks)
    top = legend(canvas, steps.labels, 8 + y_labels, width - 12, 30.0)
    frame = _Frame(8 + y_labels + 6, top + 4, width - 14, height - 40)
    canvas.text(0, 13, y.title, bold=True)
    canvas.text((frame.left + frame.right) / 2, height - 6, x.title, anchor="middle", colour="soft")
    hover = _steps(canvas, steps, x, y, frame, 11)
    return Drawing(title, width, height, canvas.items, hover)


def small_steps_chart(title: str, head: str, steps: Steps, x: Axis, y: Axis) -> Drawing:
    """The same as one of many: `head` above it, no legend and no titles of axes."""
    canvas = Canvas()
    width, height = SMALL
    frame = _Frame(8 + max(text_width(label, 10) for _, label in y.ticks) + 6, 24, width - 14, height - 22)
    canvas.text(4, 13, shortened(head, width - 8), bold=True)
    hover = _steps(canvas, steps, x, y, frame, 10)
    return Drawing(title, width, height, canvas.items, hover)


def legend(canvas: Canvas, labels: Sequence[str], left: float, right: float, top: float) -> float:
    """Line samples with their labels, in as many rows as they need; where the last row ends."""
    x, y = left, top
    for series, label in enumerate(labels):
        shown = shortened(label, right - left - 40)
        needed = 30 + text_width(shown) + 14
        if x > left and x + needed > right:
            x, y = left, y + _LEGEND_ROW
        canvas.line((x, y - 4), (x + 24, y - 4), colour=colour(series), width=2, dashes=dashes(series))
        canvas.text(x + 30, y, shown)
        x += needed
    return y + 8


def points_chart(title: str, points: Points, labels: Sequence[str], x: Axis, y: Axis, front: Points) -> Drawing:
    """Markers with labels beside them, and behind them steps through `front`, of values (n, 2) in order."""
    canvas = Canvas()
    width, height = SIZE
    frame = _Frame(8 + max(text_width(label) for _, label in y.ticks) + 6, 28, width - 14, height - 40)
    canvas.text(0, 13, y.title, bold=True)
    canvas.text((frame.left + frame.right) / 2, height - 6, x.title, anchor="middle", colour="soft")
    _grid(canvas, x, y, frame, 11)
    edge = _steps_of(x.along(front[:, 0], frame.left, frame.right), y.along(front[:, 1], frame.bottom, frame.top))
    canvas.line(*map(tuple, edge), colour="soft", width=1.2, dashes=(4, 3))
    across = x.along(points[:, 0], frame.left, frame.right)
    up = y.along(points[:, 1], frame.bottom, frame.top)
    taken = [(px - 7, py - 7, px + 7, py + 7) for px, py in zip(across, up, strict=True)]
    for ends in pairwise(edge):
        taken.append((*(np.min(ends, axis=0) - 2).tolist(), *(np.max(ends, axis=0) + 2).tolist()))
    for series, (label, px, py) in enumerate(zip(labels, across, up, strict=True)):
        tip = f"{label}\n{y.title}: {points[series, 1]:.4f}\n{x.title}: {points[series, 0]:,.3g} s"
        canvas.marker(px, py, series, 5, tip)
        _label(canvas, shortened(label, 160), px, py, frame, taken)
    return Drawing(title, width, height, canvas.items)


def _label(
    canvas: Canvas, label: str, x: float, y: float, frame: _Frame, taken: list[tuple[float, float, float, float]]
) -> None:
    """The label of a marker where it covers nothing, as near as that can be."""
    wide = text_width(label)
    beside = [(x + 9, y + 4), (x - 9 - wide, y + 4), (x - wide / 2, y - 10), (x - wide / 2, y + 19)]
    for shift in range(0, 200, 14):
        for left, base in beside:
            for at in (base - shift, base + shift):
                box = (left, at - 10, left + wide, at + 3)
                inside = frame.left <= box[0] and box[2] <= frame.right and frame.top <= box[1] <= frame.bottom - 12
                if inside and not any(_overlap(box, other) for other in taken):
                    taken.append(box)
                    if shift:  # too far off to be told whose it is
                        near = (float(np.clip(x, box[0], box[2])), float(np.clip(y, box[1], box[3])))
                        canvas.line((x, y), near, colour="soft", width=0.6)
                    canvas.text(left, at, label)
                    return


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _steps(canvas: Canvas, steps: Steps, x: Axis, y: Axis, frame: _Frame, size: float) -> Hover:
    _grid(canvas, x, y, frame, size)
    across = x.along(steps.x, frame.left, frame.right)
    drawn = [
        [y.along(np.asarray(values), frame.bottom, frame.top) for values in (band.mean, band.low, band.high)]
        for band in steps.bands
    ]
    for series, (_, low, high) in enumerate(drawn):
        if not np.isnan(low).any():
            edge = np.concatenate([_steps_of(across, low), _steps_of(across, high)[::-1]])
            canvas.area(*map(tuple, edge), colour=colour(series), opacity=0.15)
    for series, (mean, _, _) in enumerate(drawn):
        canvas.line(*map(tuple, _steps_of(across, mean)), colour=colour(series), width=1.8, dashes=dashes(series))
    values = [np.stack([band.mean, band.low, band.high], axis=1) for band in steps.bands]
    lines = [(label, series, values[series]) for series, label in enumerate(steps.labels)]
    return Hover(across, steps.at, frame.top, frame.bottom, lines)


def _steps_of(x: Floats, y: Floats) -> Points:
    """The corners of the steps through (x, y), each value holding until the next one, none where nothing changes."""
    changes = [0, *(np.flatnonzero(np.diff(y)) + 1).tolist()]
    corners = [(x[0], y[0])]
    for before, here in pairwise(changes):
        corners += [(x[here], y[before]), (x[here], y[here])]
    return np.array([*corners, (x[-1], y[-1])])


def _grid(canvas: Canvas, x: Axis, y: Axis, frame: _Frame, size: float) -> None:
    """Grid lines, tick labels and the two axes."""
    for value, label in x.thinned(frame.right - frame.left, size):
        at = float(x.along(np.array(value), frame.left, frame.right))
        canvas.line((at, frame.top), (at, frame.bottom), colour="faint", width=0.7)
        half = text_width(label, size) / 2
        canvas.text(min(at, frame.right + 12 - half), frame.bottom + 15, label, size=size, anchor="middle")
    for value, label in y.ticks:
        at = float(y.along(np.array(value), frame.bottom, frame.top))
        canvas.line((frame.left, at), (frame.right, at), colour="faint", width=0.7)
        canvas.text(frame.left - 6, at + size * 0.35, label, size=size, anchor="end")
    canvas.line((frame.left, frame.top), (frame.left, frame.bottom), (frame.right, frame.bottom), width=0.9)
