"""A table of text cells with the numbers behind them, and its forms: Markdown, terminal, CSV, LaTeX."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass

from metaquery.evaluation.analysis import number


@dataclass(frozen=True, slots=True)
class Cell:
    """What is shown, and the number to sort by (None for a text), with the ends of its interval where it has one.

    `filters` is the number of the dataset that the cell names, for the page's filter.
    """

    text: str
    key: float | None = None
    interval: tuple[float, float] | None = None
    digits: int = 3
    filters: int | None = None

    @classmethod
    def of(cls, value: float, digits: int = 3, interval: tuple[float, float] | None = None) -> Cell:
        """A number with so many decimals; an interval of NaN is none."""
        known = None if interval is None or math.isnan(interval[0]) else interval
        return cls(number(value, digits), float(value), known, digits)

    @property
    def note(self) -> str:
        """The interval as text, empty where there is none."""
        return "" if self.interval is None else f"[{', '.join(number(end, self.digits) for end in self.interval)}]"


@dataclass(frozen=True, slots=True)
class Table:
    """Headers, each with the group it stands under (or ""), and rows of cells; `name` is that of its files."""

    name: str
    headers: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The groups of neighbouring headers, with their widths in columns."""
        groups: list[tuple[str, int]] = []
        for group, _ in self.headers:
            if groups and group and groups[-1][0] == group:
                groups[-1] = (group, groups[-1][1] + 1)
            else:
                groups.append((group, 1))
        return groups

    @property
    def titles(self) -> list[str]:
        """The headers with their groups."""
        return [f"{group} {header}".strip() for group, header in self.headers]

    def numeric(self, column: int) -> bool:
        """Whether a column holds numbers."""
        return any(row[column].key is not None for row in self.rows)


def to_markdown(table: Table) -> str:
    """The table in Markdown, intervals in brackets."""
    lines = [" | ".join(map(_plain, table.titles)), " | ".join("---" for _ in table.headers)]
    lines += [" | ".join(_plain(f"{cell.text} {cell.note}".strip()) for cell in row) for row in table.rows]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def to_text(table: Table) -> str:
    """The table for a terminal, turned on its side: one line per header, one column per row, intervals included."""
    lines = [
        [title, *(f"{row[i].text} {row[i].note}".strip() for row in table.rows)] for i, title in enumerate(table.titles)
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def to_csv(table: Table) -> str:
    """The table as CSV with all digits, the ends of intervals in columns of their own; unknown numbers are empty."""
    wide = [any(row[i].interval is not None for row in table.rows) for i in range(len(table.headers))]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    head: list[str] = []
    for title, has_interval in zip(table.titles, wide, strict=True):
        head += [title, f"{title} low", f"{title} high"] if has_interval else [title]
    writer.writerow(head)
    for row in table.rows:
        line: list[str] = []
        for cell, has_interval in zip(row, wide, strict=True):
            line.append(cell.text if cell.key is None else _digits(cell.key))
            if has_interval:
                line += map(_digits, cell.interval or (math.nan, math.nan))
        writer.writerow(line)
    return buffer.getvalue()


def to_latex(table: Table) -> str:
    r"""The table as a LaTeX `tabular`, which needs the package booktabs; intervals small behind their numbers."""
    columns = "".join("r" if table.numeric(i) else "l" for i in range(len(table.headers)))
    lines = [f"\\begin{{tabular}}{{{columns}}}", "\\toprule"]
    if any(group for group, _ in table.groups):
        cells, rules, start = [], [], 1
        for group, width in table.groups:
            cells.append(f"\\multicolumn{{{width}}}{{c}}{{{_tex(group)}}}" if group else "")
            rules += [f"\\cmidrule(lr){{{start}-{start + width - 1}}}"] * bool(group)
            start += width
        lines += [" & ".join(cells) + r" \\", "".join(rules)]
    lines += [" & ".join(_tex(header) for _, header in table.headers) + r" \\", "\\midrule"]
    for row in table.rows:
        cells = [_tex(cell.text) + (f" {{\\scriptsize {cell.note}}}" if cell.note else "") for cell in row]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
} | {c: f"\\{c}" for c in "&%$#_{}"}


def _tex(text: str) -> str:
    """`text` as LaTeX shows it; in braces where it begins with what a row's end would take for its option."""
    safe = "".join(_TEX.get(c, c) for c in " ".join(text.split()))
    return f"{{{safe}}}" if safe.startswith(("[", "*")) else safe


def _plain(text: str) -> str:
    """`text` on one line, where nothing ends a cell of Markdown or starts an element of HTML."""
    return re.sub(r"([|<\\`*])", r"\\\1", " ".join(text.split()))


def _digits(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.10g}"
