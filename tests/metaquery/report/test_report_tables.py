"""The tables of a report: what they say, and their forms."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest

import metaquery as mq
from metaquery.report.table import Cell, Table, to_csv, to_latex, to_markdown, to_text
from metaquery.report.tables import by_dataset, default_regret, generalisation, leaderboard, measures, pairs

TABLE = Table(
    "example",
    (("", "name"), ("group", "one"), ("group", "two"), ("", "last")),
    (
        (Cell("a"), Cell.of(1, 1, (0, 2)), Cell("2", key=2.0), Cell("x | <y>")),
        (Cell("long_name & 5 %"), Cell.of(math.nan), Cell.of(1 / 3), Cell("[z]")),
    ),
)


def test_tables_as_text() -> None:
    assert TABLE.groups == [("", 1), ("group", 2), ("", 1)]
    assert to_markdown(TABLE).splitlines() == [
        "| name | group one | group two | last |",
        "| --- | --- | --- | --- |",
        r"| a | 1.0 [0.0, 2.0] | 2 | x \| \<y> |",
        "| long_name & 5 % | n/a | 0.333 | [z] |",
    ]
    assert to_text(TABLE).splitlines() == [
        "name       a               long_name & 5 %",
        "group one  1.0 [0.0, 2.0]  n/a",
        "group two  2               0.333",
        "last       x | <y>         [z]",
    ]


def test_csv_has_all_digits_and_intervals_in_columns() -> None:
    assert list(csv.reader(io.StringIO(to_csv(TABLE)))) == [
        ["name", "group one", "group one low", "group one high", "group two", "last"],
        ["a", "1", "0", "2", "2", "x | <y>"],
        ["long_name & 5 %", "", "", "", "0.3333333333", "[z]"],
    ]


def test_latex_is_escaped_and_aligned() -> None:
    assert to_latex(TABLE).splitlines() == [
        r"\begin{tabular}{lrrl}",
        r"\toprule",
        r" & \multicolumn{2}{c}{group} &  \\",
        r"\cmidrule(lr){2-3}",
        r"name & one & two & last \\",
        r"\midrule",
        r"a & 1.0 {\scriptsize [0.0, 2.0]} & 2 & x \textbar{} \textless{}y\textgreater{} \\",
        r"long\_name \& 5 \% & n/a & 0.333 & {[z]} \\",  # or \\ would take the bracket for its option
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_the_leaderboard_shows_the_summary(evaluation: mq.Evaluation) -> None:
    table = leaderboard(evaluation.analysis)
    for row, expected in zip(table.rows, evaluation.analysis.summary, strict=True):
        assert row[0].text == expected["optimizer"]
        assert row[3].key == expected["test_regret_100"]
        assert row[3].text == f"{expected['test_regret_100']:.3f}"
        assert row[3].interval == (expected["test_regret_100_low"], expected["test_regret_100_high"])


def test_measures_and_pairs_show_the_statistics(evaluation: mq.Evaluation) -> None:
    analysis = evaluation.analysis
    found = analysis.statistics
    order = [analysis.optimizers.index(row["optimizer"]) for row in analysis.summary]
    for row, i in zip(measures(analysis).rows, order, strict=True):
        keys = [cell.key for cell in row[1:]]
        gap = analysis.gap_to_default("test")[i].mean()
        area = analysis.area("test")[i].mean()
        cost = found.trade_off.cost_seconds[i]
        assert keys == pytest.approx(
            [found.iqm.mean[i], area, gap, found.hypervolume[i].mean(), found.elo.mean[i], cost]
        )
        assert row[5].interval == (found.elo.low[i], found.elo.high[i])
    (row,) = pairs(analysis).rows
    i, j = order
    ranked = found.critical_difference
    assert ranked is not None
    assert [cell.text for cell in row[:2]] == [analysis.optimizers[i], analysis.optimizers[j]]
    expected = [found.differences.mean[i, j], found.differences.p[i, j], found.improvement.mean[i, j]]
    assert [cell.key for cell in row[2:]] == pytest.approx([*expected, ranked.holm[i, j], ranked.nemenyi[i, j]])
    assert row[2].key >= 0  # the better one by the leaderboard comes first


def test_by_dataset_is_the_mean_over_seeds(evaluation: mq.Evaluation) -> None:
    analysis = evaluation.analysis
    rows = by_dataset(analysis).rows
    assert [(row[0].text, row[0].filters) for row in rows] == [
        (name, d) for d, name in enumerate(analysis.datasets) for _ in "ab"
    ]
    regret = analysis.final_regret("test").mean(axis=2)
    assert [row[2].key for row in rows] == pytest.approx(regret.T.ravel())


def test_generalisation_ends_with_the_default(evaluation: mq.Evaluation) -> None:
    analysis = evaluation.analysis
    table = generalisation(analysis)
    assert [header for _, header in table.headers[1:]] == analysis.datasets
    assert [row[0].text for row in table.rows] == [*evaluation.provenance["transfer"]["sources"], "default config"]
    for item, cell, regret in zip(
        evaluation.provenance["datasets"], table.rows[-1][1:], default_regret(analysis), strict=True
    ):
        ends = item["test"]
        expected = (
            math.nan if ends["default"] is None else (ends["best"] - ends["default"]) / (ends["best"] - ends["worst"])
        )
        assert cell.key == pytest.approx(expected, nan_ok=True)
        assert regret == pytest.approx(expected, nan_ok=True)
    assert np.isfinite(default_regret(analysis)).any()
