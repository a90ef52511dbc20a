"""Drawings as PNG: their primitives on matplotlib's canvas, without its axes, its layout and any global state."""

from __future__ import annotations

import io

from metaquery.drawing.canvas import Drawing, Line, Text
from metaquery.drawing.theme import COLOURS

_SCALE = 2.5  # pixels of the file per pixel of the drawing
_ALIGNED = {"start": "left", "middle": "center", "end": "right"}


def png(drawing: Drawing) -> bytes:
    """The drawing as a PNG on white, the same bytes for the same drawing."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Polygon
    from matplotlib.transforms import Affine2D

    # A drawing's pixel is one point, so that sizes of type and widths of lines need no conversion.
    with matplotlib.rc_context({"text.parse_math": False, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(drawing.width / 72, drawing.height / 72), dpi=72 * _SCALE, facecolor="white")
        FigureCanvasAgg(figure)
        place = Affine2D().scale(_SCALE, -_SCALE).translate(0, round(drawing.height * _SCALE))
        for item in drawing.items:
            colour = COLOURS[item.colour]
            if isinstance(item, Line):
                x, y = item.points.T
                line = Line2D(x, y, color=colour, linewidth=item.width, dash_capstyle="butt", transform=place)
                if item.dashes:
                    line.set_dashes([length / item.width for length in item.dashes])  # in widths of the line
                figure.add_artist(line)
            elif isinstance(item, Text):
                figure.text(
                    item.x,
                    item.y,
                    item.text,
                    size=item.size * 0.92,  # DejaVu is wider than what browsers show
                    color=colour,
                    ha=_ALIGNED[item.anchor],
                    va="baseline",
                    weight="bold" if item.bold else "normal",
                    rotation=item.angle,
                    rotation_mode="anchor",
                    transform=place,
                )
            else:
                figure.add_artist(Polygon(item.points, color=colour, alpha=item.opacity, linewidth=0, transform=place))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None}, facecolor="white")
    return buffer.getvalue()
