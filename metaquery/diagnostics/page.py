"""The page of a diagnosis: one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from metaquery.diagnostics.charts import dots

if TYPE_CHECKING:
    from metaquery.diagnostics.diagnosis import Diagnosis
    from metaquery.result import Result


def page(diagnosis: Diagnosis) -> str:
    """The page as HTML, the same text for the same diagnosis."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    parts = [
        {
            "name": name,
            "title": part.title,
            "about": part.about,
            "chart": Markup(_chart(name, part.result, diagnosis.metric)),
            "columns": part.result.columns,
            "rows": [[_cell(value) for value in row] for row in part.result.rows()],
        }
        for name, part in diagnosis.parts.items()
    ]
    return environment.get_template("page.html").render(corpus=diagnosis.corpus, metric=diagnosis.metric, parts=parts)


def _chart(name: str, result: Result, metric: str) -> str:
    rows = [dict(zip(result.columns, row, strict=True)) for row in result.rows()]
    if not rows:
        return ""
    if name == "fidelity":
        return _pivot(rows, "epoch", "rank_correlation", "rank correlation with the last epoch")
    if name == "noise":
        series = {kind: [row[f"{kind}_deviation"] for row in rows] for kind in ("config", "seed", "fold")}
        return dots(_names(rows), series, axis=f"standard deviation of validation {metric}")
    if name == "selection":
        series = {"all": [row["gap"] for row in rows], "best tenth": [row["gap_of_best_tenth"] for row in rows]}
        return dots(_names(rows), series, axis=f"validation minus test {metric}")
    if name == "importance":
        totals: dict[str, list[float]] = {}
        for row in rows:
            totals.setdefault(row["hyperparameter"], []).append(row["share"])
        means = sorted(((sum(v) / len(v), key) for key, v in totals.items()), reverse=True)
        series = {"mean over datasets": [mean for mean, _ in means]}
        return dots([key for _, key in means], series, axis="share of the variance")
    if name == "pretraining":
        series = {"pretrained wins": [row["pretrained_wins"] for row in rows]}
        return dots(_names(rows), series, axis="share of pairs in which the pretrained trial is better on test")
    if name == "cost":
        medians: dict[str, list[float]] = {}
        for row in rows:
            medians.setdefault(row["backbone"], []).append(row["median"])
        series = {
            f"{kind} over datasets": [of(values) for values in medians.values()]
            for kind, of in (("least", min), ("median", median), ("most", max))
        }
        return dots(list(medians), series, axis="seconds of a median trial", logarithmic=True)
    return ""


def _names(rows: list[dict[str, Any]]) -> list[str]:
    return [row["dataset"] for row in rows]


def _pivot(rows: list[dict[str, Any]], column: str, value: str, axis: str) -> str:
    datasets = list(dict.fromkeys(_names(rows)))
    found = {(row["dataset"], row[column]): row[value] for row in rows}
    series = {
        f"{column} {key}": [found.get((dataset, key)) for dataset in datasets]
        for key in sorted({row[column] for row in rows})
    }
    return dots(datasets, series, axis=axis)


def _cell(value: Any) -> str:
    if value is None:
        return "null"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
