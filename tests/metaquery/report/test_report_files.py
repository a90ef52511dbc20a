"""What a report consists of, that it is the same every time, and that it needs nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import metaquery as mq
from metaquery.optimizers import optimizer

TABLES = ("by_dataset", "effort", "failures", "generalisation", "leaderboard", "measures", "pairs")
FIGURES = (
    "critical_difference",
    "critical_difference_holm",
    "datasets",
    "generalisation",
    "improvement",
    "pareto",
    "profiles",
    "rank_test",
    "rank_validation",
    "regret_test",
    "regret_validation",
    "targets",
)
FILES = sorted(
    [
        *(f"figures/{name}.{form}" for name in FIGURES for form in ("png", "svg")),
        *(f"tables/{name}.{form}" for name in TABLES for form in ("csv", "tex")),
        "provenance.json",
        "report/index.html",
        "results.parquet",
        "summary.csv",
        "summary.md",
    ]
)
RUDE = "<b>&\"'$x_1$</b></script>|%\\"


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def written(evaluation: mq.Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("report") / "out"
    evaluation.report(directory)
    return directory


@pytest.fixture(scope="module")
def rude(corpus_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on one dataset, of optimizers whose names are out for trouble, one of which fails, its error as well."""

    def ask() -> None:
        raise RuntimeError(RUDE)

    def failing(seed: int) -> Any:
        made: Any = optimizer("random", seed=seed)
        made.ask = ask
        return made

    found = mq.evaluate(
        mq.open(corpus_path),
        {RUDE: lambda seed: optimizer("random", seed=seed), f"{RUDE} fails": failing},
        budget=mq.Budget(trials=3),
        seeds=1,
        datasets=["beta"],
    )
    directory = tmp_path_factory.mktemp("rude") / "out"
    found.report(directory)
    return directory


def test_all_files_are_there(written: Path) -> None:
    assert sorted(contents(written)) == FILES
    for name in FILES:
        if name.endswith(".svg"):
            ElementTree.parse(written / name)
        if name.endswith(".png"):
            assert (written / name).read_bytes().startswith(b"\x89PNG")
    assert (written / "summary.csv").read_text().splitlines()[0].startswith("optimizer,test_regret_10,")


def test_the_report_is_rebuilt_from_the_results_alone(written: Path, tmp_path: Path) -> None:
    shutil.copy(written / "results.parquet", tmp_path / "results.parquet")
    code = (
        "import sys, metaquery as mq; mq.Evaluation.load(sys.argv[1]).report(sys.argv[1]); "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    line = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(line, check=True, capture_output=True, text=True)  # another process, another hash seed
    assert done.stdout == "False\n"  # no global figures
    assert contents(tmp_path) == contents(written)


def test_a_report_leaves_no_trace_in_matplotlib(evaluation: mq.Evaluation, tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    evaluation.report(tmp_path / "out")
    assert dict(matplotlib.rcParams) == before


class Page(HTMLParser):
    """Ids, addresses, tags, texts of scripts, and all text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self.tips: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        self.tips += [value or "" for name, value in attrs if name == "data-tip"]

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script":
            self.scripts.append(data)
        self.text += data


def test_the_page_needs_nothing_else(written: Path) -> None:
    found = Page(written / "report" / "index.html")
    assert len(found.ids) == len(set(found.ids))
    assert all(address.startswith(("#", "data:")) for address in found.addresses)
    assert {address[1:] for address in found.addresses if address.startswith("#")} <= set(found.ids)
    assert not {"img", "iframe", "object", "embed"} & set(found.tags)
    assert found.tags.count("link") == 1
    assert found.tags.count("figure") == len(FIGURES) - 1 + 3
    assert "@import" not in found.text
    assert "url(" not in found.text


def test_what_can_be_hovered_over_is_what_was_measured(written: Path, evaluation: mq.Evaluation) -> None:
    analysis = evaluation.analysis
    data = json.loads(Page(written / "report" / "index.html").scripts[0])
    chart = data["charts"][0]  # the first figure: regret on test
    for (label, series, changes), name, band in zip(
        chart["lines"], analysis.optimizers, analysis.curves("test"), strict=True
    ):
        assert (label, series) == (name, analysis.optimizers.index(name))
        at = dict(zip(changes[::4], zip(*(changes[i::4] for i in (1, 2, 3)), strict=True), strict=True))
        shown = at[0]
        for position in range(len(analysis.grid)):
            shown = at.get(position, shown)  # what holds since the last change
            expected = [band.mean[position], band.low[position], band.high[position]]
            assert shown == pytest.approx(expected, abs=1e-5)
    assert len(data["positions"][chart["positions"]]) == len(data["labels"][chart["labels"]]) == len(analysis.grid)
    assert data["datasets"] == ["alpha family_one CT", "beta family_two MRI", "gamma family_one CT"]


def test_names_are_escaped_everywhere(rude: Path) -> None:
    text = (rude / "report" / "index.html").read_text(encoding="utf-8")
    assert "<b>" not in text
    found = Page(rude / "report" / "index.html")
    assert found.tags.count("script") == 2
    assert "b" not in found.tags
    assert json.loads(found.scripts[0])["charts"][0]["lines"][0][0] == RUDE
    assert f"RuntimeError: {RUDE}" in found.text  # in the table of failures
    assert any(tip.startswith(f"{RUDE} is better than {RUDE} fails\n") for tip in found.tips)
    for path in (rude / "figures").glob("*.svg"):
        labels = [element.text for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]
        assert path.stem in ("datasets", "generalisation") or any(RUDE[:3] in (label or "") for label in labels)
    latex = (rude / "tables" / "leaderboard.tex").read_text(encoding="utf-8")
    assert r"\textless{}b\textgreater{}\&\textquotedbl{}'\$x\_1\$" in latex
    assert not re.search(r"(?<!\\)[$&%_](?! )", latex.replace(" & ", ""))


def test_one_dataset_and_one_seed_are_enough(rude: Path) -> None:
    names = {path.stem for path in (rude / "figures").iterdir()}
    assert {"critical_difference", "pareto"} & names == set()  # no ranks over one dataset, no cost without incumbents
    assert "n/a" in (rude / "tables" / "pairs.tex").read_text(encoding="utf-8")
