"""The tables of a report, as text cells with the numbers to sort by; one form for page, Markdown and terminal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from metaquery.evaluation.analysis import MARKS, Analysis, counted, number, regret_key


@dataclass(frozen=True, slots=True)
class Cell:
    """What is shown, a second smaller line below it, and what to sort by (the text itself where None)."""

    text: str
    note: str = ""
    key: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Headers, each with the group it stands under (or ""), and rows of cells."""

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


def leaderboard(analysis: Analysis) -> Table:
    """One row per optimizer, the lowest final regret first, by test where there is one."""
    name = metric_title(analysis)
    headers = [("", "optimizer")]
    for split in reversed(analysis.splits):
        headers += [(f"{split} regret at", f"{mark:.0%}") for mark in MARKS]
    headers += [(f"final {name}", split) for split in reversed(analysis.splits)]
    headers += [("average rank", split) for split in reversed(analysis.splits)]
    rows = []
    for row in analysis.summary:
        cells = [Cell(row["optimizer"])]
        for split in reversed(analysis.splits):
            for mark in MARKS:
                key = regret_key(split, mark)
                cells.append(_regret(row[key], row[f"{key}_low"], row[f"{key}_high"]))
        cells += [_plain(row[f"final_{split}"], 4) for split in reversed(analysis.splits)]
        cells += [_plain(row[f"rank_{split}"], 2) for split in reversed(analysis.splits)]
        rows.append(tuple(cells))
    return Table(tuple(headers), tuple(rows))


def by_dataset(analysis: Analysis) -> Table:
    """One row per dataset and optimizer, at the full budget, means over seeds; the best value of the table beside."""
    name = metric_title(analysis)
    end = np.array([analysis.limit])
    regret = {split: analysis.regret(split, end)[:, :, :, 0] for split in analysis.splits}
    final = {split: analysis.final(split) for split in analysis.splits}
    headers = [("", "dataset"), ("", "optimizer")]
    headers += [("final regret", split) for split in reversed(analysis.splits)]
    headers += [(f"final {name}", split) for split in reversed(analysis.splits)]
    headers += [(f"best {name} in table", split) for split in reversed(analysis.splits)]
    headers += [("", "studies ended")]
    rows = []
    for d, item in enumerate(analysis.provenance["datasets"]):
        for o, label in enumerate(analysis.optimizers):
            cells = [Cell(item["dataset"]), Cell(label)]
            cells += [_plain(float(regret[split][o, d].mean()), 3) for split in reversed(analysis.splits)]
            cells += [_plain(float(final[split][o, d].mean()), 4) for split in reversed(analysis.splits)]
            cells += [_plain(item[split]["best"], 4) for split in reversed(analysis.splits)]
            studies = analysis.studies(optimizer=label, dataset=item["dataset"])
            cells.append(Cell(counted(Counter(study["stop"] for study in studies))))
            rows.append(tuple(cells))
    return Table(tuple(headers), tuple(rows))


def effort(analysis: Analysis) -> Table:
    """One row per optimizer: what its studies did on average, why they ended, and how all evaluations ended."""
    names = sorted(analysis.statuses())
    headers = [("", "optimizer"), ("mean of a study", "evaluations"), ("mean of a study", "new epochs")]
    headers += [("evaluations", name.replace("_", " ")) for name in names] + [("", "studies ended")]
    rows = []
    for row in analysis.summary:
        counts = analysis.statuses(optimizer=row["optimizer"])
        cells = [Cell(row["optimizer"]), _plain(row["evaluations"], 1), _plain(row["epochs"], 1)]
        cells += [Cell(f"{counts[name]:,}", key=counts[name]) for name in names] + [Cell(row["stops"])]
        rows.append(tuple(cells))
    return Table(tuple(headers), tuple(rows))


def to_markdown(table: Table) -> str:
    """The table in Markdown, notes in brackets."""
    lines = [" | ".join(f"{group} {header}".strip() for group, header in table.headers)]
    lines.append(" | ".join("---" for _ in table.headers))
    lines += [" | ".join(f"{cell.text} {cell.note}".strip() for cell in row) for row in table.rows]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def to_text(table: Table) -> str:
    """The table for a terminal, turned on its side: one line per header, one column per row, notes included."""
    lines = [
        [f"{group} {header}".strip(), *(f"{row[i].text} {row[i].note}".strip() for row in table.rows)]
        for i, (group, header) in enumerate(table.headers)
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def metric_title(analysis: Analysis) -> str:
    """The metric's name for people."""
    name: str = analysis.provenance["benchmark"]["metric"]
    return name.upper() if name in ("auc", "ece", "f1") else name.replace("_", " ")


def _regret(mean: float, low: float, high: float) -> Cell:
    return Cell(number(mean), "" if np.isnan(low) else f"[{number(low)}, {number(high)}]", float(mean))


def _plain(value: float, digits: int) -> Cell:
    return Cell(number(value, digits), key=None if np.isnan(value) else float(value))
