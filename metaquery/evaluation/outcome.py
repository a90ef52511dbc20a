"""The result of an evaluation: tidy rows and their provenance, from which everything else follows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaquery.errors import InvalidInput
from metaquery.evaluation.analysis import Analysis
from metaquery.outputs import check_output

if TYPE_CHECKING:
    import pyarrow as pa

    from metaquery.result import Result

RESULTS = "results.parquet"
PROVENANCE = "provenance.json"
ENTRIES = frozenset({RESULTS, PROVENANCE, "summary.csv", "summary.md", "figures", "report"})


@dataclass(frozen=True)
class Evaluation:
    """Optimizers compared on a protocol.

    `results` holds one row per change of an incumbent: when (seconds, newly trained epochs, evaluations), its
    metric on validation and test in the metric's own direction, both normalised regrets, config and epoch; test and
    its regret are null where the corpus has no test values.
    `provenance` says what was run and how each study ended.
    """

    results: pa.Table
    provenance: Mapping[str, Any]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any]) -> Evaluation:
        """Build it from rows with the columns of `results`; equal to what `load` reads back."""
        import pyarrow as pa

        plain = json.loads(json.dumps(provenance, sort_keys=True))
        return cls(pa.Table.from_pylist([dict(row) for row in rows], schema=_schema()), plain)

    @classmethod
    def load(cls, directory: str | Path) -> Evaluation:
        """Read what `report` wrote; InvalidInput where it is not there or damaged."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = Path(directory)
        try:
            provenance = json.loads((path / PROVENANCE).read_text())
            results = pq.read_table(path / RESULTS, schema=_schema())
        except (OSError, ValueError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())
            raise InvalidInput(
                f"{path} is not the output of metaquery evaluate: expected {RESULTS} and {PROVENANCE} in it ({reason})"
            ) from error
        if not isinstance(provenance, dict) or provenance.get("kind") != "evaluation":
            raise InvalidInput(f"{path / PROVENANCE} is of another kind: expected the output of metaquery evaluate")
        return cls(results, provenance)

    @staticmethod
    def check_output(directory: str | Path) -> None:
        """Refuse a directory that `report` could not write to."""
        check_output(Path(directory), marker=PROVENANCE, entries=ENTRIES)

    @cached_property
    def analysis(self) -> Analysis:
        """Curves, ranks and intervals."""
        return Analysis(self.results, self.provenance)

    def summary(self) -> Result:
        """One row per optimizer, the best first: regrets with intervals, final metric, ranks, effort, stops."""
        import pyarrow as pa

        from metaquery.result import Result

        return Result(pa.Table.from_pylist(self.analysis.summary))

    def report(self, directory: str | Path) -> Path:
        """Write results, provenance, summary, figures and the report page; the path of the page."""
        from metaquery.report.write import write_report

        return write_report(self, Path(directory))

    def __str__(self) -> str:
        from metaquery.report.tables import leaderboard, to_text

        return to_text(leaderboard(self.analysis))


def _schema() -> pa.Schema:
    import pyarrow as pa

    text, integer, real = pa.string(), pa.int64(), pa.float64()
    types = {
        "optimizer": text,
        "dataset": text,
        "seed": integer,
        "clock_seconds": real,
        "epochs": integer,
        "evaluations": integer,
        "validation": real,
        "test": real,
        "validation_regret": real,
        "test_regret": real,
        "config_id": text,
        "epoch": integer,
    }
    return pa.schema([pa.field(name, kind, nullable=name in ("test", "test_regret")) for name, kind in types.items()])
