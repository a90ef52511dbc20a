"""Drawings: a few primitives in pixels, and the one way from them to SVG. All figures are made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaquery.drawing.theme import COLOURS

Points = NDArray[np.float64]  # (n, 2), x and y in pixels, y downwards

SERIES = sum(name.startswith("series-") for name in COLOURS)
DASHES: tuple[tuple[float, ...], ...] = ((), (6, 2), (1.6, 1.8), (7, 2, 1.6, 2), (10, 3), (3, 1.5, 1, 1.5, 1, 1.5))
SHAPES = (0, 4, 3, 6, 5)  # corners of an optimizer's marker; 0 is a circle
FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"


@dataclass(frozen=True, slots=True)
class Line:
    """An open line; `datasets` are the numbers by which the page's filter knows an item."""

    points: Points
    colour: str = "ink"
    width: float = 1.0
    dashes: tuple[float, ...] = ()
    datasets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Area:
    """A filled polygon; `tip` is what hovering over it says."""

    points: Points
    colour: str = "ink"
    opacity: float = 1.0
    tip: str = ""
    datasets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text: `anchor` is start, middle or end, `angle` is in degrees, counter-clockwise."""

    x: float
    y: float
    text: str
    size: float = 11
    anchor: str = "start"
    colour: str = "ink"
    bold: bool = False
    angle: float = 0
    datasets: tuple[int, ...] = ()


Item = Line | Area | Text


@dataclass(frozen=True, slots=True)
class Hover:
    """What the page shows at each of the `positions` (pixels) of a chart of lines, between `top` and `bottom`.

    `at` says where that is; each of `lines` has a label, its number among the series, and values (mean, low, high),
    shape (positions, 3), NaN where there is no interval.
    """

    positions: NDArray[np.float64]
    at: Sequence[str]
    top: float
    bottom: float
    lines: Sequence[tuple[str, int, NDArray[np.float64]]]


@dataclass(frozen=True)
class Drawing:
    """Items on a canvas of `width` by `height` pixels, from back to front; `columns` is the number of tips in a row."""

    title: str
    width: float
    height: float
    items: Sequence[Item]
    hover: Hover | None = None
    columns: int = 1

    def svg(self) -> str:
        """A document of its own, for papers: transparent, its colours those for white."""
        root = (
            f'<svg xmlns="http://www.w3.org/2000/svg" {self._box()} width="{_n(self.width)}" height="{_n(self.height)}"'
            f' font-family="{FONT}"><title>{escape(self.title)}</title>'
        )
        return root + "".join(_element(item, COLOURS.__getitem__, tips=False) for item in self.items) + "</svg>\n"

    def inline(self, **data: Any) -> str:
        """An element of a page: colours that follow the page, `data` attributes, and tips for its script."""
        attributes = "".join(f' data-{name}="{escape(str(value))}"' for name, value in data.items())
        tipped = any(isinstance(item, Area) and item.tip for item in self.items)
        if tipped:
            attributes += f' data-columns="{self.columns}"'
        focus = ' tabindex="0"' if tipped or self.hover else ""
        size = f' style="max-width: {1.1 * self.width:.0f}px"'  # or small ones would be blown up to fill their place
        root = f'<svg role="img" aria-label="{escape(self.title)}" {self._box()}{size}{focus}{attributes}>'
        return (
            root + "".join(_element(item, lambda name: f"var(--{name})", tips=True) for item in self.items) + "</svg>"
        )

    def _box(self) -> str:
        return f'viewBox="0 0 {_n(self.width)} {_n(self.height)}"'


@dataclass
class Canvas:
    """Collects the items of a drawing."""

    items: list[Item] = field(default_factory=list)

    def line(self, *points: tuple[float, float], **style: Any) -> None:
        """A line through `points`."""
        self.items.append(Line(np.array(points), **style))

    def area(self, *points: tuple[float, float], **style: Any) -> None:
        """A polygon with the corners `points`."""
        self.items.append(Area(np.array(points), **style))

    def rectangle(self, x: float, y: float, width: float, height: float, **style: Any) -> None:
        """A rectangle by its upper left corner."""
        self.area((x, y), (x + width, y), (x + width, y + height), (x, y + height), **style)

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """A line of text with its baseline at `y`."""
        self.items.append(Text(x, y, text, **style))

    def marker(self, x: float, y: float, series: int, radius: float, tip: str = "") -> None:
        """The marker of a series."""
        corners = SHAPES[series % len(SHAPES)]
        angles = 2 * np.pi * np.arange(corners or 32) / (corners or 32) + (np.pi / 4 if corners == 4 else 0)
        around = radius * (1.0 if corners == 0 else 1.2) * np.stack([np.sin(angles), -np.cos(angles)], axis=1)
        self.items.append(Area(np.round(around + (x, y), 2), colour(series), 1.0, tip))


def colour(series: int) -> str:
    """The colour of a series, by its number."""
    return f"series-{series % SERIES}"


def dashes(series: int) -> tuple[float, ...]:
    """The dashes of a series: another combination with the colour for each of the first 42."""
    return DASHES[series % len(DASHES)]


def moved(item: Item, x: float, y: float) -> Item:
    """The item, so much further right and down."""
    if isinstance(item, Text):
        return replace(item, x=item.x + x, y=item.y + y)
    return replace(item, points=item.points + (x, y))


_NARROW, _WIDE = frozenset(" !'()*,-./:;I[]`fijlrt|"), frozenset("%@MWmw")


def text_width(text: str, size: float = 11) -> float:
    """About how wide a text is in pixels, in the widest of the usual fonts."""
    widths = (0.36 if c in _NARROW else 0.95 if c in _WIDE else 0.7 if c.isupper() else 0.62 for c in text)
    return size * sum(widths)


def shortened(text: str, width: float, size: float = 11) -> str:
    """The text, with an ellipsis for its middle where it is wider than `width` pixels."""
    if text_width(text, size) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        if text_width(short, size) <= width:
            return short
    return "…"


def _element(item: Item, ink: Any, *, tips: bool) -> str:
    filtered = ""
    if tips and item.datasets:
        filtered = f' data-datasets="{" ".join(map(str, item.datasets))}"'
    if isinstance(item, Line):
        dash = f' stroke-dasharray="{" ".join(map(_n, item.dashes))}"' if item.dashes else ""
        stroke = f'stroke="{ink(item.colour)}" stroke-width="{item.width:g}"{dash}'
        return f'<path d="{_path(item.points)}" fill="none" {stroke}{filtered}/>'
    if isinstance(item, Area):
        see = f' fill-opacity="{item.opacity:.3g}"' if item.opacity < 1 else ""
        tip = f' data-tip="{escape(item.tip)}"' if tips and item.tip else ""
        return f'<path d="{_path(item.points)}Z" fill="{ink(item.colour)}"{see}{filtered}{tip}/>'
    style = f' text-anchor="{item.anchor}"' if item.anchor != "start" else ""
    style += ' font-weight="600"' if item.bold else ""
    style += f' transform="rotate({-item.angle:g} {_n(item.x)} {_n(item.y)})"' if item.angle else ""
    where = f'x="{_n(item.x)}" y="{_n(item.y)}" font-size="{item.size:g}" fill="{ink(item.colour)}"'
    return f"<text {where}{style}{filtered}>{escape(item.text)}</text>"


def _path(points: Points) -> str:
    """Straight lines through the points, horizontal and vertical ones in short."""
    return "".join(_commands(np.round(points, 1).tolist()))


def _commands(points: list[list[float]]) -> Iterator[str]:
    before = points[0]
    yield f"M{_n(before[0])} {_n(before[1])}"
    for x, y in points[1:]:
        if y == before[1]:
            yield f"H{_n(x)}"
        elif x == before[0]:
            yield f"V{_n(y)}"
        else:
            yield f"L{_n(x)} {_n(y)}"
        before = [x, y]


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
