"""The tables of a report, each made of an analysis: one place for page, files and terminal."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np

from metaquery.evaluation.analysis import MARKS, Analysis, Band, counted, regret_key
from metaquery.evaluation.measures.regret import Floats
from metaquery.report.table import Cell, Table


def tables(analysis: Analysis) -> dict[str, Table]:
    """All tables by name."""
    made = (leaderboard, measures, pairs, by_dataset, generalisation, effort, failures)
    return {table.name: table for table in (make(analysis) for make in made)}


def leaderboard(analysis: Analysis) -> Table:
    """One row per optimizer, the lowest final regret first, by the judged split."""
    name = metric_title(analysis)
    headers = [("", "optimizer")]
    for split in analysis.splits:
        headers += [(f"{split} regret at", f"{mark:.0%}") for mark in MARKS]
    headers += [(f"final {name}", split) for split in analysis.splits]
    headers += [("average rank", split) for split in analysis.splits]
    rows = []
    for row in analysis.summary:
        cells = [Cell(row["optimizer"])]
        for split in analysis.splits:
            for mark in MARKS:
                key = regret_key(split, mark)
                cells.append(Cell.of(row[key], 3, (row[f"{key}_low"], row[f"{key}_high"])))
        cells += [Cell.of(row[f"final_{split}"], 4) for split in analysis.splits]
        cells += [Cell.of(row[f"rank_{split}"], 2) for split in analysis.splits]
        rows.append(tuple(cells))
    return Table("leaderboard", tuple(headers), tuple(rows))


def measures(analysis: Analysis) -> Table:
    """One row per optimizer, in the order of the leaderboard: other ways to sum up the same studies."""
    split, name, found = analysis.judged, metric_title(analysis), analysis.statistics
    headers = (
        ("", "optimizer"),
        ("final regret", "IQM"),
        ("", "area under regret"),
        ("", f"{name} better than default"),
        ("", "hypervolume"),
        ("", "Elo"),
        ("config found", "cost / s"),
    )
    rows = []
    for row in analysis.summary:
        i = analysis.optimizers.index(row["optimizer"])
        rows.append(
            (
                Cell(row["optimizer"]),
                _banded(found.iqm, i, 3),
                Cell.of(row[f"area_{split}"]),
                Cell.of(row[f"gap_{split}"], 4),
                Cell.of(float(found.hypervolume[i].mean())),
                _banded(found.elo, i, 0),
                Cell.of(float(found.trade_off.cost_seconds[i]), 1),
            )
        )
    return Table("measures", headers, tuple(rows))


def pairs(analysis: Analysis) -> Table:
    """One row per pair of optimizers, the better by the leaderboard first: how far apart they are, and how surely."""
    found = analysis.statistics
    ranked, difference = found.critical_difference, found.differences
    nothing = np.full((len(analysis.optimizers),) * 2, math.nan)
    holm, nemenyi = (nothing, nothing) if ranked is None else (ranked.holm, ranked.nemenyi)
    headers = (
        ("", "optimizer"),
        ("", "against"),
        ("final regret lower by", "mean"),
        ("final regret lower by", "p"),
        ("", "probability of improvement"),
        ("p of equal ranks", "Holm-Wilcoxon"),
        ("p of equal ranks", "Nemenyi"),
    )
    order = [analysis.optimizers.index(row["optimizer"]) for row in analysis.summary]
    rows = [
        (
            Cell(analysis.optimizers[i]),
            Cell(analysis.optimizers[j]),
            Cell.of(difference.mean[i, j], 3, (difference.low[i, j], difference.high[i, j])),
            Cell.of(difference.p[i, j]),
            _banded(found.improvement, (i, j), 2),
            Cell.of(holm[i, j]),
            Cell.of(nemenyi[i, j]),
        )
        for i, j in combinations(order, 2)
    ]
    return Table("pairs", headers, tuple(rows))


def by_dataset(analysis: Analysis) -> Table:
    """One row per dataset and optimizer, at the full budget, means over seeds; the best value of the table beside."""
    name = metric_title(analysis)
    regret = {split: analysis.final_regret(split) for split in analysis.splits}
    final = {split: analysis.final(split) for split in analysis.splits}
    headers = [("", "dataset"), ("", "optimizer")]
    headers += [("final regret", split) for split in analysis.splits]
    headers += [(f"final {name}", split) for split in analysis.splits]
    headers += [(f"best {name} in table", split) for split in analysis.splits]
    headers += [("", "studies ended")]
    stops: dict[tuple[str, str], Counter[str]] = {}
    for study in analysis.provenance["studies"]:
        stops.setdefault((study["optimizer"], study["dataset"]), Counter())[study["stop"]] += 1
    rows = []
    for d, item in enumerate(analysis.provenance["datasets"]):
        for o, label in enumerate(analysis.optimizers):
            cells = [Cell(item["dataset"], filters=d), Cell(label)]
            cells += [Cell.of(float(regret[split][o, d].mean())) for split in analysis.splits]
            cells += [Cell.of(float(final[split][o, d].mean()), 4) for split in analysis.splits]
            cells += [Cell.of(item[split]["best"], 4) for split in analysis.splits]
            cells.append(Cell(counted(stops[label, item["dataset"]])))
            rows.append(tuple(cells))
    return Table("by_dataset", tuple(headers), tuple(rows))


def generalisation(analysis: Analysis) -> Table:
    """Regret of the config chosen on the dataset of a row, trained in full on that of a column; `n/a` where none is."""
    found = analysis.provenance["transfer"]
    headers = (("", "chosen on"), *(("tested on", dataset) for dataset in analysis.datasets))
    rows = [
        (Cell(source), *(Cell.of(math.nan if regret is None else regret) for regret in regrets))
        for source, regrets in zip(found["sources"], found["regret"], strict=True)
    ]
    default = (Cell("default config"), *map(Cell.of, default_regret(analysis).tolist()))
    return Table("generalisation", headers, (*rows, default))


def default_regret(analysis: Analysis) -> Floats:
    """Regret of the fully trained default config on the judged split, shape (datasets,); NaN where it failed."""
    values = [item[analysis.judged] for item in analysis.provenance["datasets"]]
    best, worst, default = (
        np.array([v[key] for v in values], dtype=np.float64) for key in ("best", "worst", "default")
    )
    return np.divide(default - best, worst - best, out=np.zeros_like(best), where=worst != best)


def effort(analysis: Analysis) -> Table:
    """One row per optimizer: what its studies did on average, why they ended, and how all evaluations ended."""
    names = sorted(analysis.statuses())
    headers = [("", "optimizer"), ("mean of a study", "evaluations"), ("mean of a study", "new epochs")]
    headers += [("evaluations", name.replace("_", " ")) for name in names] + [("", "studies ended")]
    rows = []
    for row in analysis.summary:
        counts = analysis.statuses(optimizer=row["optimizer"])
        cells = [Cell(row["optimizer"]), Cell.of(row["evaluations"], 1), Cell.of(row["epochs"], 1)]
        cells += [Cell(f"{counts[name]:,}", key=counts[name]) for name in names] + [Cell(row["stops"])]
        rows.append(tuple(cells))
    return Table("effort", tuple(headers), tuple(rows))


def failures(analysis: Analysis) -> Table:
    """One row per optimizer, dataset and error of the studies whose optimizer raised."""
    headers = (("", "optimizer"), ("", "dataset"), ("", "seeds"), ("", "error"))
    rows = tuple(
        (
            Cell(label),
            Cell(dataset, filters=analysis.datasets.index(dataset)),
            Cell(", ".join(map(str, seeds))),
            Cell(error),
        )
        for (label, dataset, error), seeds in analysis.failures.items()
    )
    return Table("failures", headers, rows)


def metric_title(analysis: Analysis) -> str:
    """The metric's name for people."""
    name: str = analysis.provenance["benchmark"]["metric"]
    return name.upper() if name in ("auc", "ece", "f1") else name.replace("_", " ")


def _banded(band: Band, place: int | tuple[int, int], digits: int) -> Cell:
    return Cell.of(band.mean[place], digits, (band.low[place], band.high[place]))
