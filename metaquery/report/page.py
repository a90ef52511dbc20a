"""The report page: one HTML file that needs nothing else, neither network nor neighbours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaquery.drawing.canvas import Canvas, Drawing, colour, dashes
from metaquery.drawing.html import render
from metaquery.evaluation.analysis import Analysis
from metaquery.evaluation.measures.aggregate import RESAMPLES
from metaquery.evaluation.verdict import judged_on_validation, verdict
from metaquery.report.axes import budget_axis
from metaquery.report.figures import Figure
from metaquery.report.table import Table
from metaquery.report.tables import metric_title

_SECTIONS = (
    ("leaderboard", "Leaderboard"),
    ("budget", "Over the budget"),
    ("sure", "How sure that is"),
    ("cost", "What is reached, and at what cost"),
    ("datasets", "By dataset"),
    ("generalisation", "From one dataset to another"),
    ("failures", "Effort and failures"),
    ("terms", "What the numbers depend on"),
)


def page(analysis: Analysis, figures: list[Figure], panels: list[Drawing], tables: Mapping[str, Table]) -> str:
    """The page as HTML, from what `metaquery.report.figures` and `metaquery.report.tables` made of the analysis."""
    from markupsafe import Markup

    charts = _Charts()
    drawn = {
        figure.name: {"svg": Markup(charts.inline(figure.drawing)), "caption": figure.caption} for figure in figures
    }
    small = [Markup(charts.inline(drawing)) for drawing in panels]
    n, kind = analysis.units
    return render(
        Path(__file__).parent,
        sections=[(f"section-{name}", title) for name, title in _SECTIONS],
        verdict=verdict(analysis),
        counts=f"{_counted(analysis.datasets, 'dataset')} with {_counted(analysis.seeds, 'seed')} each",
        metric=metric_title(analysis),
        tables=tables,
        figures=drawn,
        panels=small,
        legend=[(Markup(_sample(series)), label) for series, label in enumerate(analysis.optimizers)],
        judged=analysis.judged,
        budget_title=budget_axis(analysis).title,
        ratio=f"{analysis.statistics.differences.ratio:.2g}",
        interval=f"95 % percentile bootstrap over {n} {kind}, {RESAMPLES} resamples, fixed seed" if n > 1 else "none",
        facts=_facts(analysis),
        folds=_folds(analysis),
        data=Markup(_json({"datasets": _words(analysis), **charts.data})),
    )


class _Charts:
    """What the page's script knows of its charts of lines: positions and their words are kept once."""

    def __init__(self) -> None:
        self.data: dict[str, list[Any]] = {"charts": [], "positions": [], "labels": []}

    def inline(self, drawing: Drawing) -> str:
        """The drawing as an element, its values noted."""
        hover = drawing.hover
        if hover is None:
            return drawing.inline()
        self.data["charts"].append(
            {
                "positions": self._once("positions", np.round(hover.positions, 1).tolist()),
                "labels": self._once("labels", list(hover.at)),
                "top": round(hover.top, 1),
                "bottom": round(hover.bottom, 1),
                "lines": [(label, series, _changes(values)) for label, series, values in hover.lines],
            }
        )
        return drawing.inline(chart=len(self.data["charts"]) - 1)

    def _once(self, name: str, values: list[Any]) -> int:
        known = self.data[name]
        if values not in known:
            known.append(values)
        return known.index(values)


def _changes(values: NDArray[np.float64]) -> list[int | float | None]:
    """Position, mean, low and high wherever one of `values`, shape (positions, 3), changes; None for NaN."""
    rounded = np.round(values, 5)
    new = np.ones(len(values), dtype=bool)
    new[1:] = (np.nan_to_num(rounded[1:], nan=-1.0) != np.nan_to_num(rounded[:-1], nan=-1.0)).any(axis=1)
    changes: list[int | float | None] = []
    for position in np.flatnonzero(new).tolist():
        changes += [position, *(None if np.isnan(v) else v for v in rounded[position].tolist())]
    return changes


def _sample(series: int) -> str:
    canvas = Canvas()
    canvas.line((0, 4), (26, 4), colour=colour(series), width=2, dashes=dashes(series))
    return Drawing("", 26, 8, canvas.items).inline(series=series)


def _words(analysis: Analysis) -> list[str]:
    """What the filter looks into, by dataset."""
    return [f"{item['dataset']} {item['family']} {item['modality']}" for item in analysis.provenance["datasets"]]


def _json(document: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _counted(things: list[Any], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _folds(analysis: Analysis) -> list[tuple[str, str]]:
    """Test datasets with what may train and validate for them, in as few words as that takes."""
    folds = analysis.provenance["protocol"]["folds"]
    families = {item["dataset"]: item["family"] for item in analysis.provenance["datasets"]}
    known = dict.fromkeys(name for fold in folds for name in (fold["test"], *fold["train"], *fold["validation"]))
    told = []
    for fold in folds:
        train, validation = fold["train"], fold["validation"]
        others = [name for name in known if name not in (fold["test"], *train)]
        if len(train) > len(others):
            text = f"all {len(train)} others" if not others else f"{len(train)}, all others but {', '.join(others)}"
        else:
            text = ", ".join(train) or "none"
        checked = f"; {', '.join(validation)} to validate" if validation else ""
        told.append((f"{fold['test']} (family {families[fold['test']]})", text + checked))
    return told


def _facts(analysis: Analysis) -> list[tuple[str, str]]:
    """What the numbers depend on, name and value."""
    provenance = analysis.provenance
    bench = provenance["benchmark"]
    budget = ", ".join(f"{value:g} {name}" for name, value in provenance["budget"].items() if value is not None)
    facts: list[tuple[str, Any]] = [
        ("corpus", f"{provenance['corpus']['name']} {provenance['corpus']['version']}, {provenance['corpus']['hash']}"),
        ("backend", f"{bench['kind']}, fold {bench['fold']}, trial seed {bench['seed']}, {bench['epochs']} epochs"),
        ("metric", f"{bench['metric']}, chosen on validation, {_reported(analysis)}"),
        ("protocol", f"{provenance['protocol']['name']}: {provenance['protocol']['description']}"),
        ("budget of a study", budget),
        ("clock", f"{provenance['clock']}; the optimizer's own time is {provenance['optimizer_seconds']}"),
        ("workers", provenance["workers"]),
        ("charging", f"{provenance['charging']}: {_CHARGING[provenance['charging']]}"),
        *([("configs outside the table", _snapped(analysis))] if provenance.get("snap") else []),
        ("seeds", f"{len(analysis.seeds)} ({', '.join(map(str, analysis.seeds))}), the same for every optimizer"),
        ("normalised regret", provenance["normaliser"]["formula"]),
        ("stalled", f"after {provenance['stall_asks']} asks in a row that train nothing"),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(provenance["versions"].items()))),
    ]
    for item in provenance["optimizers"]:
        options = json.dumps(item["options"], sort_keys=True) if item["options"] else "no options"
        packages = "".join(f", {name} {version}" for name, version in item["versions"].items())
        facts.append((f"optimizer {item['label']}", f"{item['name']}, {options}{packages}"))
    return [(name, str(value)) for name, value in facts]


def _snapped(analysis: Analysis) -> str:
    means = [
        f"{label} {np.mean([study['mean_distance'] for study in analysis.studies(optimizer=label)]):.2f}"
        for label in analysis.optimizers
    ]
    return (
        "the nearest config of the table that stood in for none yet; mean Gower distance from what was asked for, "
        f"summed over hyperparameters: {', '.join(means)}"
    )


def _reported(analysis: Analysis) -> str:
    if analysis.judged == "test":
        return "reported on test"
    return f"reported on validation too: {judged_on_validation(analysis)}"


_CHARGING = {
    "resume": "a config that trains on pays for its new epochs only",
    "restart": "every evaluation pays for all of its epochs",
}
