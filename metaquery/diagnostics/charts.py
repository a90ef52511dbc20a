"""Dot charts: one line per row, one mark per series, intervals where there are any, one axis for all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from metaquery.diagnostics.curves import Estimate
from metaquery.drawing.axes import Axis
from metaquery.drawing.canvas import Canvas, Drawing, colour, shortened, text_width

Series = Mapping[str, Sequence[Estimate | None]]

_WIDTH, _PLOT = 760.0, 430.0
_LABEL = _WIDTH - _PLOT - 60
_PITCH, _APART = 12.0, 8.0  # of rows, and of the marks of a row


def dots(title: str, labels: Sequence[str], series: Series, axis: Axis) -> Drawing:
    """A chart of `series`, each with an estimate, or None, for every one of `labels`; what is not known is left out.

    The series of a row stand one below the other, so that none hides another.
    """
    canvas = Canvas()
    names = [shortened(label, _LABEL) for label in labels]
    left = max(map(text_width, names)) + 16
    right, top = left + _PLOT, _legend(canvas, list(series), left)
    row_height = _PITCH + _APART * len(series)
    bottom = top + row_height * len(labels)
    for value, text in axis.thinned(_PLOT, 11):
        x = float(axis.along(np.array(value), left, right))
        canvas.line((x, top), (x, bottom), colour="faint", width=0.7)
        canvas.text(x, bottom + 16, text, anchor="middle")
    canvas.text((left + right) / 2, bottom + 34, axis.title, anchor="middle", colour="soft")
    for row, name in enumerate(names):
        start = top + row_height * row
        canvas.line((left, start + row_height), (right, start + row_height), colour="faint", width=0.7)
        canvas.text(left - 10, start + row_height / 2 + 4, name, anchor="end")
        for number, (kind, values) in enumerate(series.items()):
            found = values[row]
            if found is None:
                continue
            y = start + (_PITCH + _APART) / 2 + _APART * number
            x, low, high = axis.along(np.array(found), left, right).tolist()
            if not math.isnan(low):
                canvas.line((low, y), (high, y), colour=colour(number), width=1.6)
            canvas.marker(x, y, number, 3.6, _tip(labels[row], kind, found))
    return Drawing(title, left + _PLOT + 30, bottom + 42, canvas.items, columns=len(series))


def _tip(label: str, kind: str, found: Estimate) -> str:
    interval = "" if math.isnan(found.low) else f" [{found.low:.3g}, {found.high:.3g}]"
    return f"{label}\n{kind}: {found.value:.3g}{interval}"


def _legend(canvas: Canvas, names: Sequence[str], left: float) -> float:
    """Marks with the names of several series; where the legend ends."""
    if len(names) < 2:
        return 6.0
    x = left
    for number, name in enumerate(names):
        canvas.marker(x + 5, 10, number, 3.6)
        canvas.text(x + 14, 14, name)
        x += text_width(name) + 34
    return 24.0
