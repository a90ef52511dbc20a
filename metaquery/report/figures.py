"""The figures of a report: what each shows of an analysis, and its caption."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from metaquery.drawing.axes import Axis, linear_axis, seconds_axis, share_axis
from metaquery.drawing.canvas import Drawing
from metaquery.evaluation.analysis import Analysis, Band, number
from metaquery.report.axes import FLOOR, budget_axis, budget_label, rank_axis, regret_axis
from metaquery.report.charts import Steps, points_chart, small_steps_chart, steps_chart
from metaquery.report.diagrams import Square, critical_difference_diagram, matrix, together
from metaquery.report.tables import default_regret, metric_title


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing with the name of its files and its caption."""

    name: str
    caption: str
    drawing: Drawing


def figures(analysis: Analysis) -> list[Figure]:
    """All figures but the panels of single datasets, which `panels` draws."""
    return [
        *_over_the_budget(analysis),
        *_significance(analysis),
        _profiles(analysis),
        _improvement(analysis),
        *_pareto(analysis),
        _generalisation(analysis),
    ]


def panels(analysis: Analysis) -> list[Drawing]:
    """Regret on each dataset on the judged split: mean over seeds, and the middle half of the seeds as a band."""
    values = analysis.regret(analysis.judged, analysis.grid)
    means = values.mean(axis=2)
    low, high = np.quantile(values, [0.25, 0.75], axis=2)
    x, y, at = budget_axis(analysis), regret_axis("", float(means.min())), _at(analysis)
    drawn = []
    for d, dataset in enumerate(analysis.datasets):
        bands = [Band(means[i, d], low[i, d], high[i, d]) for i in range(len(analysis.optimizers))]
        steps = Steps(analysis.grid, analysis.optimizers, bands, at)
        drawn.append(small_steps_chart(f"{analysis.judged} regret on {dataset}", dataset, steps, x, y))
    return drawn


def panels_together(analysis: Analysis, drawn: list[Drawing]) -> Figure:
    """The panels as one figure, for its files."""
    note = f"normalised {analysis.judged} regret over {budget_axis(analysis).title}"
    return Figure("datasets", note, together(note, drawn, analysis.optimizers, note))


def _over_the_budget(analysis: Analysis) -> Iterator[Figure]:
    x, at = budget_axis(analysis), _at(analysis)
    saw = {
        "test": "of the incumbent, which was chosen on validation",
        "validation": "of the incumbent: what optimizers saw",
    }
    for split in analysis.splits:
        title = f"normalised {split} regret"
        bands = analysis.curves(split)
        y = regret_axis(title, min(float(band.mean.min()) for band in bands))
        caption = f"{split.capitalize()} regret {saw[split]}; below {FLOOR:g} drawn at {FLOOR:g}."
        yield Figure(
            f"regret_{split}",
            caption,
            steps_chart(f"{title} over {x.title}", Steps(analysis.grid, analysis.optimizers, bands, at), x, y),
        )
    for split in analysis.splits:
        title = f"average rank by {split} regret"
        steps = Steps(analysis.grid, analysis.optimizers, analysis.ranks(split), at)
        drawing = steps_chart(f"{title} over {x.title}", steps, x, rank_axis(title, len(analysis.optimizers)))
        yield Figure(f"rank_{split}", f"Average rank by {split} regret; level results share their ranks.", drawing)
    reached = [Band(share, *np.full((2, len(share)), math.nan)) for share in analysis.statistics.ecdf(analysis.judged)]
    title = "share of targets reached"
    drawing = steps_chart(
        f"{title} over {x.title}", Steps(analysis.grid, analysis.optimizers, reached, at), x, share_axis(title)
    )
    caption = f"ECDF of targets: {analysis.judged} regrets from 0.001 to 0.8, on every dataset with every seed."
    yield Figure("targets", caption, drawing)


def _significance(analysis: Analysis) -> Iterator[Figure]:
    found = analysis.statistics.critical_difference
    if found is None:
        return
    about = f"Average rank by mean regret over {len(analysis.datasets)} datasets (Friedman {_p(found.friedman)})."
    for name, test, groups, distance in (
        ("critical_difference", "Nemenyi's test", found.nemenyi_groups, found.critical_difference),
        ("critical_difference_holm", "Wilcoxon's signed-rank test with Holm's correction", found.holm_groups, None),
    ):
        drawing = critical_difference_diagram(
            f"average rank, bars by {test}", analysis.optimizers, found.ranks, groups, distance
        )
        yield Figure(name, f"{about} Bars join optimizers that {test} at 5 % cannot tell apart.", drawing)


def _profiles(analysis: Analysis) -> Figure:
    found = analysis.statistics.profiles
    shares = found.shares
    bands = [Band(*values) for values in zip(shares.mean, shares.low, shares.high, strict=True)]
    x = Axis(f"final {analysis.judged} regret", 0.0, 1.0, [(tick / 5, f"{tick / 5:g}") for tick in range(6)])
    y = share_axis("share of runs at most there")
    at = [f"regret ≤ {value:.2f}" for value in found.thresholds]
    steps = Steps(found.thresholds, analysis.optimizers, bands, at)
    caption = "Performance profiles: the share of runs that end with at most this regret; higher is better."
    return Figure("profiles", caption, steps_chart("performance profiles", steps, x, y))


def _improvement(analysis: Analysis) -> Figure:
    found, labels = analysis.statistics.improvement, analysis.optimizers
    cells = []
    for i, row in enumerate(labels):
        line = []
        for j, column in enumerate(labels):
            value, low, high = (float(part[i, j]) for part in (found.mean, found.low, found.high))
            interval = "" if math.isnan(low) else f" [{number(low, 2)}, {number(high, 2)}]"
            tip = f"{row} is better than {column}\nprobability {number(value, 2)}{interval}"
            if i == j:
                line.append(Square("", 0.0, f"{row} and itself"))
            else:
                line.append(Square(number(value, 2), 2 * value - 1, tip))
        cells.append(line)
    caption = (
        "Probability of improvement: how likely a run of the optimizer of the row ends with a lower regret than one of "
        "that of the column, on a dataset drawn at random."
    )
    return Figure(
        "improvement", caption, matrix("probability of improvement", labels, labels, cells, heads=("of", "over"))
    )


def _pareto(analysis: Analysis) -> Iterator[Figure]:
    found = analysis.statistics.trade_off
    if not np.isfinite(found.cost_seconds).all():
        return  # an optimizer without any incumbent has no place in it
    points = np.stack([found.cost_seconds, found.metric], axis=1)
    title = f"final {analysis.judged} {metric_title(analysis)}"
    x, y = seconds_axis("training cost of the config found", points[:, 0]), linear_axis(title, points[:, 1])
    best = points[sorted(found.on_front, key=lambda i: float(points[i, 0]))]
    worst = y.low if analysis.from_loss(0.0) > analysis.from_loss(1.0) else y.high
    front = np.array([(best[0, 0], worst), *best.tolist(), (x.high, best[-1, 1])])
    caption = (
        f"What was found against what training it alone costs: mean {analysis.judged} {metric_title(analysis)}, "
        "geometric mean of the cost over datasets. The dashed line is the Pareto front by regret and cost."
    )
    yield Figure("pareto", caption, points_chart(f"{title} against cost", points, analysis.optimizers, x, y, front))


def _generalisation(analysis: Analysis) -> Figure:
    found = analysis.provenance["transfer"]
    name = metric_title(analysis)
    told_apart = _varied(found["configs"].values())
    cells = []
    for i, source in enumerate(found["sources"]):
        line = []
        for j, target in enumerate(analysis.datasets):
            regret, value, shared = (found[key][i][j] for key in ("regret", "value", "shared"))
            if regret is None:
                related = found["families"][source] == found["families"][target]
                why = "of one family: they share patients or images" if related else "no config in common"
                line.append(Square("n/a", 0.0, f"{source} and {target}\n{why}"))
                continue
            values = found["configs"][found["config"][i][j]]
            told = f"{analysis.judged} regret {number(regret)}, " + (
                "failed" if value is None else f"{name} {value:.4f}"
            )
            config = "\n".join(f"{key} = {values[key]}" for key in told_apart if key in values)
            tip = f"best on {source} of {shared:,} shared configs\ntested on {target}\n{told}\n{config}"
            line.append(Square(number(regret, 2), min(max(regret, 0.0), 1.0), tip, outlined=source == target))
        cells.append(line)
    defaults = [
        Square("n/a", 0.0, f"default config on {target}\nfailed")
        if math.isnan(regret)
        else Square(
            number(regret, 2), min(max(regret, 0.0), 1.0), f"default config on {target}\nregret {number(regret)}"
        )
        for target, regret in zip(analysis.datasets, default_regret(analysis).tolist(), strict=True)
    ]
    numbers = {dataset: d for d, dataset in enumerate(analysis.datasets)}
    known = [numbers.get(source, -1) for source in found["sources"]]
    drawing = matrix(
        "cross-dataset generalisation",
        [*found["sources"], "default config"],
        analysis.datasets,
        [*cells, defaults],
        heads=("chosen on", "tested on"),
        datasets=(known, list(range(len(analysis.datasets)))),
    )
    return Figure("generalisation", generalisation_caption(analysis), drawing)


def generalisation_caption(analysis: Analysis) -> str:
    """What the generalisation matrix shows, and what it comes to on average."""
    caption = (
        "Of the configs that both tables hold, the one with the best validation value after full training on the "
        f"dataset of the row, trained in full on that of the column: its normalised {analysis.judged} regret."
    )
    found = analysis.provenance["transfer"]
    regret = np.array(found["regret"], dtype=np.float64)  # (sources, targets)
    same = np.array([[source == target for target in analysis.datasets] for source in found["sources"]])
    both = []
    for target, default in enumerate(default_regret(analysis).tolist()):
        column, own = regret[:, target], same[:, target]
        others = column[~own & ~np.isnan(column)]
        known = [*column[own].tolist(), float(others.mean()) if len(others) else math.nan, default]
        if not np.isnan(known).any():
            both.append(known)
    if not both:
        return caption
    own_mean, other_mean, default_mean = (number(value, 2) for value in np.mean(both, axis=0).tolist())
    return (
        f"{caption} Over the {len(both)} datasets that have all three, each counting the same, the mean regret is "
        f"{own_mean} with the dataset's own choice (outlined), {other_mean} with that of another dataset, "
        f"{default_mean} with the default config."
    )


def _at(analysis: Analysis) -> list[str]:
    return [budget_label(analysis, value) for value in analysis.grid.tolist()]


def _varied(configs: Iterable[Mapping[str, Any]]) -> list[str]:
    """The hyperparameters in which `configs` differ, all of them where there is one config only."""
    every = list(configs)
    names = sorted({name for config in every for name in config})
    return [name for name in names if len(every) == 1 or len({config.get(name) for config in every}) > 1]


def _p(value: float) -> str:
    return f"p = {value:.3f}" if value >= 0.001 else "p < 0.001"
