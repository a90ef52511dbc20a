"""Charts that have no pair of scales: matrices of numbers, critical-difference diagrams, small multiples together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metaquery.drawing.canvas import Canvas, Drawing, Item, moved, shortened, text_width
from metaquery.evaluation.measures.regret import Floats
from metaquery.report.charts import SIZE, SMALL, legend

_SLANT = math.radians(40)
_LABEL = 170.0  # the widest label of a row or column
_DEEPEST = 0.7  # opacity of the strongest colour, which leaves the ink on it readable


@dataclass(frozen=True, slots=True)
class Square:
    """A cell of a matrix: what it shows, how strongly it is coloured (-1 to 1: the second colour below 0), its tip."""

    text: str
    strength: float
    tip: str
    outlined: bool = False


def matrix(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[Square]],
    *,
    heads: tuple[str, str],
    datasets: tuple[Sequence[int], Sequence[int]] | None = None,
) -> Drawing:
    """Numbers on coloured squares; `heads` say what rows and columns are.

    `datasets` are the numbers by which the page's filter knows what rows and columns are about.
    """
    canvas = Canvas()
    wide = 58.0 if len(columns) <= 8 else 42.0 if len(columns) <= 14 else 34.0
    high, size = (30.0, 11.0) if len(columns) <= 8 else (24.0, 10.0) if len(columns) <= 14 else (20.0, 9.0)
    row_names, column_names = ([shortened(name, _LABEL) for name in names] for names in (rows, columns))
    left = max(text_width(name) for name in [*row_names, heads[0]]) + 12
    slanted = max(text_width(name) for name in column_names)
    top = 26 + slanted * math.sin(_SLANT) + 10
    right = max(
        [left + wide * (j + 0.5) + text_width(name) * math.cos(_SLANT) for j, name in enumerate(column_names)]
        + [left + wide * len(columns), left + text_width(heads[1])]
    )
    canvas.text(left, 13, heads[1], colour="soft")
    canvas.text(left - 8, top - 6, heads[0], colour="soft", anchor="end")
    row_ids, column_ids = datasets or ([], [])
    for j, name in enumerate(column_names):
        own = tuple(column_ids[j : j + 1])
        canvas.text(left + wide * (j + 0.5), top - 6, name, angle=math.degrees(_SLANT), datasets=own)
    for i, name in enumerate(row_names):
        y = top + high * i
        canvas.text(left - 8, y + high / 2 + 4, name, anchor="end", datasets=tuple(row_ids[i : i + 1]))
        for j, cell in enumerate(cells[i]):
            x = left + wide * j
            own = (*row_ids[i : i + 1], *column_ids[j : j + 1])
            hue, opacity = ("series-1" if cell.strength < 0 else "series-0"), abs(cell.strength) * _DEEPEST
            style = {"colour": hue, "opacity": opacity, "tip": cell.tip, "datasets": own}
            canvas.rectangle(x + 1, y + 1, wide - 2, high - 2, **style)
            if cell.outlined:
                corners = [(x + 1, y + 1), (x + wide - 1, y + 1), (x + wide - 1, y + high - 1), (x + 1, y + high - 1)]
                canvas.line(*corners, corners[0], width=1.2, datasets=own)
            canvas.text(x + wide / 2, y + high / 2 + size * 0.36, cell.text, size=size, anchor="middle", datasets=own)
    return Drawing(title, max(right + 6, 200), top + high * len(rows) + 8, canvas.items, columns=len(columns))


def critical_difference_diagram(
    title: str, labels: Sequence[str], ranks: Floats, groups: Sequence[Sequence[int]], distance: float | None
) -> Drawing:
    """Average ranks on a line, 1 on the left, with bars below that join the `groups`; `distance` is drawn above."""
    canvas = Canvas()
    width, k = SIZE[0], len(labels)
    order = np.argsort(ranks, kind="stable").tolist()
    named = [f"{shortened(label, 130)}  {ranks[i]:.2f}" for i, label in enumerate(labels)]
    margin = max(text_width(name) for name in named) + 20
    left, right, axis = margin, width - margin, 72.0

    def at(rank: float) -> float:
        return left + (rank - 1) / (k - 1) * (right - left)

    canvas.text(0, 13, title, bold=True)
    if distance is not None:
        end = min(at(1 + distance), width - 4)
        canvas.line((left, 44), (end, 44), width=1.6)
        for x in (left, end):
            canvas.line((x, 40), (x, 48), width=1.2)
        canvas.text(left, 35, f"critical difference {distance:.2f}", size=10, colour="soft")
    canvas.line((left, axis), (right, axis), width=1.2)
    for rank in range(1, k + 1):
        canvas.line((at(rank), axis - 5), (at(rank), axis), width=1)
        canvas.text(at(rank), axis - 9, str(rank), anchor="middle", size=10)
    bars = axis + 10.0
    for n, group in enumerate(groups):
        y = bars + 7 * n
        first, last = (float(ranks[i]) for i in (group[0], group[-1]))
        canvas.line((at(first) - 4, y), (at(last) + 4, y), width=3.4)
    below = bars + 7 * len(groups) + 14
    half = (k + 1) // 2
    for position, i in enumerate(order):
        x = at(float(ranks[i]))
        on_left = position < half
        y = below + 19 * (position if on_left else k - 1 - position)
        edge = left - 12 if on_left else right + 12
        canvas.line((x, axis), (x, y), (edge, y), colour="soft", width=0.9)
        canvas.text(edge + (-4 if on_left else 4), y + 4, named[i], anchor="end" if on_left else "start")
        canvas.marker(x, axis, i, 4, f"{labels[i]}\naverage rank {ranks[i]:.2f}")
    return Drawing(title, width, below + 19 * (half - 1) + 14, canvas.items)


def together(title: str, drawings: Sequence[Drawing], labels: Sequence[str], note: str, columns: int = 3) -> Drawing:
    """Small charts side by side under one legend, for a page of a paper."""
    columns = min(columns, len(drawings))
    canvas = Canvas()
    width = max(SMALL[0] * columns, SIZE[0])
    canvas.text(4, 13, note, colour="soft")
    top = legend(canvas, labels, 4, width, 34) + 6
    items: list[Item] = canvas.items
    for i, drawing in enumerate(drawings):
        row, column = divmod(i, columns)
        items += [moved(item, column * SMALL[0], top + row * (SMALL[1] + 8)) for item in drawing.items]
    rows = -(-len(drawings) // columns)
    return Drawing(title, width, top + rows * (SMALL[1] + 8), items)
