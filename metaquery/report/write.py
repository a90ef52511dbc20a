"""Writing an evaluation: results, provenance, summary, tables, figures and the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from metaquery.outputs import replaced_entries, write_json
from metaquery.report.figures import figures, panels, panels_together
from metaquery.report.page import page
from metaquery.report.raster import png
from metaquery.report.table import to_csv, to_latex, to_markdown
from metaquery.report.tables import tables

if TYPE_CHECKING:
    from metaquery.evaluation.outcome import Evaluation


def write_report(evaluation: Evaluation, directory: Path) -> Path:
    """Write everything to `directory`, replacing an earlier evaluation there; the path of the page."""
    from metaquery.evaluation.outcome import PROVENANCE, RESULTS

    evaluation.check_output(directory)
    analysis = evaluation.analysis
    made, drawn, small = tables(analysis), figures(analysis), panels(analysis)
    with replaced_entries(directory, last=RESULTS) as new:
        evaluation.save(new / RESULTS)
        write_json(new / PROVENANCE, evaluation.provenance)
        evaluation.summary().write("csv", new / "summary.csv")
        _write(new / "summary.md", to_markdown(made["leaderboard"]))
        for name in ("tables", "figures", "report"):
            (new / name).mkdir()
        for name, table in made.items():
            _write(new / "tables" / f"{name}.csv", to_csv(table))
            _write(new / "tables" / f"{name}.tex", to_latex(table))
        for figure in [*drawn, panels_together(analysis, small)]:
            _write(new / "figures" / f"{figure.name}.svg", figure.drawing.svg())
            (new / "figures" / f"{figure.name}.png").write_bytes(png(figure.drawing))
        _write(new / "report" / "index.html", page(analysis, drawn, small, made))
    return directory / "report" / "index.html"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
