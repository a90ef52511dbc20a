"""The scripts under studies/ do what their pages say."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from factory import make_corpus

import metaquery as mq
from metaquery.diagnostics import diagnose
from metaquery.surrogates.store import find

STUDIES = Path(__file__).parents[1] / "studies"
ABLATIONS = ("quicktune:meta=false", "quicktune:cost=false", "quicktune:grey_box=false")
LABELS = ("random", "asha", "hyperband", "dehb", "dyhpo", "quicktune", *ABLATIONS)


def rows_of(printed: str) -> dict[str, list[str]]:
    """The last cells of the second table, by optimizer."""
    second = printed.split("`quicktune` less")[1]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in second.splitlines() if line.startswith("| `")
    ]
    return {cells[0].strip("`"): cells[1:] for cells in rows}


def test_the_tables_of_the_reproduction_say_how_far_each_optimizer_is_from_quicktune(tmp_path):
    """Under all labels runs the same search, under `asha` one that has the luck of other seeds."""
    corpus = mq.open(make_corpus(tmp_path / "corpus"))
    factories = {
        label: (lambda seed, shift=10 * (label == "asha"): mq.optimizer("random", seed=seed + shift))
        for label in LABELS
    }
    evaluation = mq.evaluate(corpus, factories, protocol="single", budget=mq.Budget(epochs=40), seeds=2)
    evaluation.report(tmp_path / "evaluation")
    done = subprocess.run(
        [sys.executable, STUDIES / "quicktune_reproduction.py", tmp_path / "evaluation", tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = rows_of(done.stdout)
    n = len(corpus.datasets)
    assert rows.keys() == set(LABELS) - {"quicktune"}
    assert rows["random"] == ["0.000 [0.000, 0.000]"] * 3 + [f"0, {n}, 0"]
    final = dict(zip(LABELS, evaluation.analysis.final_regret("test").mean(axis=(1, 2)), strict=True))
    assert rows["asha"][2].startswith(f"{final['quicktune'] - final['asha']:z.3f} [")
    assert (tmp_path / "quicktune-reproduction.png").stat().st_size > 10_000


def test_the_findings_hold_the_tables_that_their_script_makes_of_the_release():
    line = [sys.executable, STUDIES / "medcurves_findings.py", "medcurves"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    page = (STUDIES / "medcurves-1.0.md").read_text()
    tables = done.stdout.strip().split("\n\n")
    assert len(tables) == 6
    for made in tables:
        assert made in page


def test_what_is_shipped_beside_the_release_is_of_the_release(tmp_path):
    medcurves, beside = mq.open("medcurves"), STUDIES / "medcurves-1.0"
    for name in ("surrogate", "surrogate-families", "surrogate-metrics"):
        assert json.loads((beside / f"{name}.json").read_text())["hash"] == medcurves.hash
    assert find(medcurves, "auc").stamp["trials"] == len(medcurves.table("trials"))
    recommended = csv.DictReader((beside / "recommendation.csv").read_text().splitlines())
    assert {row["dataset"] for row in recommended} == set(medcurves.datasets)
    for name, part in diagnose(medcurves).parts.items():
        part.result.write("csv", tmp_path / f"{name}.csv")
        assert (tmp_path / f"{name}.csv").read_text() == (beside / "diagnosis" / f"{name}.csv").read_text(), name


@pytest.mark.slow
def test_the_reproduction_runs_from_the_published_curves(curves_root, tmp_path):
    """All of it but with one seed in place of five: the script's last step again for more would take the rest."""
    script = (STUDIES / "quicktune_reproduction.sh").read_text().replace("--seeds 5", "--seeds 1")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    extended = next(path.parent for path in curves_root.rglob("perf.json"))
    subprocess.run(["bash", "-c", script, "script", extended, tmp_path / "out"], check=True, env=environment)
    found = mq.Evaluation.load(tmp_path / "out" / "evaluation").analysis
    assert (len(found.datasets), set(found.optimizers)) == (26, set(LABELS))
    regret = dict(zip(found.optimizers, found.final_regret("validation").mean(axis=(1, 2)), strict=True))
    assert min(regret["quicktune"], regret["quicktune:grey_box=false"]) < regret["dyhpo"] < regret["random"]


@pytest.mark.slow
def test_the_comparison_of_refits_on_the_page_runs(tmp_path):
    """The page's command, on one dataset, with one seed and a short budget."""
    page = (STUDIES / "quicktune-reproduction.md").read_text()
    line = next(block for block in page.split("```\n")[1::2] if block.startswith("metaquery evaluate"))
    small = line.replace("--seeds 3 --budget 2m", "--seeds 1 --budget 10s --datasets pneumoniamnist")
    assert small != line
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(small.replace("OUT", str(tmp_path / "out")), shell=True, check=True, env=environment)
    found = mq.Evaluation.load(tmp_path / "out").analysis
    assert {"quicktune", "quicktune:refit=full"} <= set(found.optimizers)
