"""What a report consists of, that it is the same every time, and that its figures show the numbers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import metaquery as mq
from metaquery.report.figures import figures, inline, svg
from metaquery.report.page import page
from metaquery.report.tables import Cell, Table, leaderboard, to_markdown, to_text

FILES = [
    "figures/datasets.png",
    "figures/datasets.svg",
    *(
        f"figures/{kind}_{split}.{form}"
        for kind in ("rank", "regret")
        for split in ("test", "validation")
        for form in ("png", "svg")
    ),
    "provenance.json",
    "report/index.html",
    "results.parquet",
    "summary.csv",
    "summary.md",
]


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def written(evaluation: mq.Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("report") / "out"
    evaluation.report(directory)
    return directory


def test_all_files_are_there(written: Path) -> None:
    assert list(contents(written)) == FILES
    for name in FILES:
        if name.endswith(".svg"):
            ElementTree.parse(written / name)
        if name.endswith(".png"):
            assert (written / name).read_bytes().startswith(b"\x89PNG")
    assert (written / "summary.csv").read_text().splitlines()[0].startswith("optimizer,validation_regret_10,")


def test_the_report_is_rebuilt_from_results_and_provenance_alone(written: Path, tmp_path: Path) -> None:
    for name in ("results.parquet", "provenance.json"):
        shutil.copy(written / name, tmp_path / name)
    code = (
        "import sys, metaquery as mq; mq.Evaluation.load(sys.argv[1]).report(sys.argv[1]); "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    line = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(line, check=True, capture_output=True, text=True)  # another process, another hash seed
    assert done.stdout == "False\n"  # no global figures
    assert contents(tmp_path) == contents(written)


def test_figures_leave_no_trace_in_matplotlib(evaluation: mq.Evaluation) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    svg(figures(evaluation.analysis)["rank_test"])
    assert dict(matplotlib.rcParams) == before


def test_curves_are_drawn_as_they_are(evaluation: mq.Evaluation) -> None:
    analysis = evaluation.analysis
    axes = figures(analysis)["regret_test"].axes[0]
    for line, label, band in zip(axes.lines, analysis.optimizers, analysis.curves("test"), strict=True):
        assert line.get_label() == label
        assert line.get_drawstyle() == "steps-post"
        np.testing.assert_array_equal(line.get_xdata(), analysis.grid)
        np.testing.assert_array_equal(line.get_ydata(), np.maximum(band.mean, 1e-3))
    panels = figures(analysis)["datasets"].axes
    assert [ax.get_title(loc="left") for ax in panels] == analysis.datasets
    alpha = analysis.regret("test", analysis.grid)[:, 0].mean(axis=1)
    for line, values in zip(panels[0].lines, alpha, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), np.maximum(values, 1e-3))


def test_inline_drawings_keep_to_themselves(evaluation: mq.Evaluation) -> None:
    drawing = inline(svg(figures(evaluation.analysis)["rank_test"]), "one", "a title")
    root = ElementTree.fromstring(drawing.replace("xlink:", ""))
    assert root.get("aria-label") == "a title"
    assert root.get("viewBox")
    assert root.get("width") is None
    ids = [e.get("id") for e in root.iter() if e.get("id")]
    assert len(ids) == len(set(ids))
    assert all(i.startswith("one-") for i in ids)
    targets = re.findall(r'(?:href="#|url\(#)([^")]+)', drawing)
    assert targets
    assert set(targets) <= set(ids)
    assert "var(--ink)" in drawing
    assert "var(--series-1)" in drawing


class Page(HTMLParser):
    """Ids, addresses and tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]


def test_the_page_needs_nothing_else(written: Path) -> None:
    found = Page()
    found.feed((written / "report" / "index.html").read_text())
    assert len(found.ids) == len(set(found.ids))
    assert all(address.startswith(("#", "data:")) for address in found.addresses)
    assert not {"img", "iframe", "object", "embed"} & set(found.tags)
    assert found.tags.count("link") == 1
    assert found.tags.count("svg") == 4 + 3


def test_names_are_escaped(corpus: mq.Corpus) -> None:
    from metaquery.optimizers import optimizer

    label = "<b>&\"'$x_1$</b>"
    found = mq.evaluate(
        corpus,
        {label: lambda seed: optimizer("random", seed=seed)},
        budget=mq.Budget(trials=3),
        seeds=1,
        datasets=["beta"],
    )
    text = page(found.analysis)
    assert label not in text
    assert "&lt;b&gt;&amp;" in text


TABLE = Table(
    (("", "name"), ("group", "one"), ("group", "two"), ("", "last")),
    (
        (Cell("a"), Cell("1", "[0, 2]", 1.0), Cell("2", key=2.0), Cell("x")),
        (Cell("long name"), Cell("3"), Cell("4"), Cell("y")),
    ),
)


def test_tables_as_text() -> None:
    assert TABLE.groups == [("", 1), ("group", 2), ("", 1)]
    assert to_markdown(TABLE).splitlines() == [
        "| name | group one | group two | last |",
        "| --- | --- | --- | --- |",
        "| a | 1 [0, 2] | 2 | x |",
        "| long name | 3 | 4 | y |",
    ]
    assert to_text(TABLE).splitlines() == [
        "name       a         long name",
        "group one  1 [0, 2]  3",
        "group two  2         4",
        "last       x         y",
    ]


def test_the_leaderboard_shows_the_summary(evaluation: mq.Evaluation) -> None:
    table = leaderboard(evaluation.analysis)
    for row, expected in zip(table.rows, evaluation.analysis.summary, strict=True):
        assert row[0].text == expected["optimizer"]
        assert row[3].key == expected["test_regret_100"]
        assert row[3].text == f"{expected['test_regret_100']:.3f}"
