"""The report page: one HTML file that needs nothing else, neither network nor neighbours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from metaquery.evaluation.analysis import Analysis
from metaquery.evaluation.measures import RESAMPLES
from metaquery.evaluation.verdict import verdict
from metaquery.report.figures import FLOOR, SERIES, figures, inline, panel, svg
from metaquery.report.tables import by_dataset, effort, leaderboard, metric_title

CAPTIONS = {
    "regret_test": "Test regret of the incumbent, which was chosen on validation.",
    "regret_validation": "Validation regret of the incumbent: what the optimizers saw.",
    "rank_test": "Average rank by test regret; level results share their ranks.",
    "rank_validation": "Average rank by validation regret.",
}


def page(analysis: Analysis) -> str:
    """The page as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = figures(analysis)
    families = {item["dataset"]: item["family"] for item in analysis.provenance["datasets"]}
    n, kind = analysis.units
    return environment.get_template("page.html").render(
        verdict=verdict(analysis),
        metric=metric_title(analysis),
        optimizers=list(enumerate(analysis.optimizers)),
        n_series=len(SERIES),
        leaderboard=leaderboard(analysis),
        by_dataset=by_dataset(analysis),
        effort=effort(analysis),
        figures=[
            (name, Markup(inline(svg(drawn[name]), name, caption)), caption)
            for name, caption in CAPTIONS.items()
            if name in drawn
        ],
        panels=[
            Markup(inline(svg(panel(analysis, dataset)), f"dataset{i}", f"{analysis.judged} regret on {dataset}"))
            for i, dataset in enumerate(analysis.datasets)
        ],
        judged=analysis.judged,
        floor=FLOOR,
        interval=f"95 % percentile bootstrap over {n} {kind}, {RESAMPLES} resamples, fixed seed" if n > 1 else "none",
        facts=_facts(analysis),
        folds=[
            (f"{fold['test']} (family {families[fold['test']]})", ", ".join(fold["train"]) or "none")
            for fold in analysis.provenance["protocol"]["folds"]
        ],
        provenance=analysis.provenance,
    )


def _facts(analysis: Analysis) -> list[tuple[str, str]]:
    """What the numbers depend on, name and value."""
    provenance = analysis.provenance
    bench = provenance["benchmark"]
    budget = ", ".join(f"{value:g} {name}" for name, value in provenance["budget"].items() if value is not None)
    facts: list[tuple[str, Any]] = [
        ("corpus", f"{provenance['corpus']['name']} {provenance['corpus']['version']}, {provenance['corpus']['hash']}"),
        ("backend", f"{bench['kind']}, fold {bench['fold']}, trial seed {bench['seed']}, {bench['epochs']} epochs"),
        ("metric", f"{bench['metric']}, chosen on validation, {_REPORTED[analysis.judged]}"),
        ("protocol", f"{provenance['protocol']['name']}: {provenance['protocol']['description']}"),
        ("budget of a study", budget),
        ("clock", f"{provenance['clock']}; the optimizer's own time is {provenance['optimizer_seconds']}"),
        ("workers", provenance["workers"]),
        ("charging", f"{provenance['charging']}: {_CHARGING[provenance['charging']]}"),
        *([("configs outside the table", _snapped(analysis))] if provenance.get("snap") else []),
        ("seeds", f"{len(analysis.seeds)} ({', '.join(map(str, analysis.seeds))}), the same for every optimizer"),
        ("normalised regret", provenance["normaliser"]),
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


_REPORTED = {
    "test": "reported on test",
    "validation": "and reported on validation too: the corpus has no test values",
}
_CHARGING = {
    "resume": "a config that trains on pays for its new epochs only",
    "restart": "every evaluation pays for all of its epochs",
}
