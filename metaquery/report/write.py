"""Writing an evaluation: results, provenance, summary, figures and the page, all or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from metaquery.outputs import new_directory, write_json
from metaquery.report.figures import figures, png, svg
from metaquery.report.page import page
from metaquery.report.tables import leaderboard, to_markdown

if TYPE_CHECKING:
    from metaquery.evaluation.outcome import Evaluation


def write_report(evaluation: Evaluation, directory: Path) -> Path:
    """Write everything to `directory`, replacing an earlier evaluation there; the path of the page."""
    import pyarrow.parquet

    from metaquery.evaluation.outcome import ENTRIES, PROVENANCE, RESULTS

    analysis = evaluation.analysis
    with new_directory(directory, marker=PROVENANCE, entries=ENTRIES) as new:
        pyarrow.parquet.write_table(evaluation.results, new / RESULTS)
        write_json(new / PROVENANCE, evaluation.provenance)
        evaluation.summary().write("csv", new / "summary.csv")
        (new / "summary.md").write_text(to_markdown(leaderboard(analysis)))
        (new / "figures").mkdir()
        for name, figure in figures(analysis).items():
            (new / "figures" / f"{name}.svg").write_text(svg(figure))
            (new / "figures" / f"{name}.png").write_bytes(png(figure))
        (new / "report").mkdir()
        (new / "report" / "index.html").write_text(page(analysis))
    return directory / "report" / "index.html"
