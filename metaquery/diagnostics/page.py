"""The page of a diagnosis: one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaquery.diagnostics.figures import figure
from metaquery.drawing.html import render

if TYPE_CHECKING:
    import pyarrow as pa

    from metaquery.diagnostics.diagnosis import Diagnosis


def page(diagnosis: Diagnosis) -> str:
    """The page as HTML, the same text for the same diagnosis."""
    from markupsafe import Markup

    parts = []
    for name, part in diagnosis.parts.items():
        rows = [dict(zip(part.result.columns, row, strict=True)) for row in part.result.rows()]
        drawing = figure(name, rows, diagnosis.metric)
        texts = {field.name for field in part.result.arrow().schema if not _is_number(field.type)}
        parts.append(
            {
                "name": name,
                "title": part.title,
                "about": part.about,
                "finding": part.finding,
                "chart": None if drawing is None else Markup(drawing.inline()),
                "columns": [(column.replace("_", " "), column in texts) for column in part.result.columns],
                "rows": [
                    [(_cell(value, column in texts), column in texts) for column, value in row.items()] for row in rows
                ],
            }
        )
    return render(Path(__file__).parent, corpus=diagnosis.corpus, metric=diagnosis.metric, parts=parts)


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _cell(value: Any, text: bool) -> str:
    if value is None:
        return "" if text else "too few"
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
