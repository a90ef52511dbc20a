"""The result of an evaluation: tidy rows and their provenance, from which everything else follows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaquery.errors import InvalidInput
from metaquery.evaluation.analysis import Analysis
from metaquery.evaluation.parts import PARTS
from metaquery.outputs import UNFINISHED, check_output

if TYPE_CHECKING:
    import pyarrow as pa

    from metaquery.result import Result

RESULTS = "results.parquet"
PROVENANCE = "provenance.json"
ENTRIES = frozenset(
    {RESULTS, PROVENANCE, PARTS, UNFINISHED, "summary.csv", "summary.md", "figures", "tables", "report"}
)
_METADATA = b"medcurves"  # the key of the provenance in the file of the results


@dataclass(frozen=True)
class Evaluation:
    """Optimizers compared on a protocol.

    `results` holds one row per change of an incumbent: when (seconds, newly trained epochs, evaluations), its
    metric on validation and test in the metric's own direction, both normalised regrets, config (as JSON), epoch, and
    `cost_seconds`, what training it alone to that epoch costs; test and its regret are null where the corpus has no
    test values. `provenance` says what was run and how each study ended.
    `seconds` are the CPU seconds that each part took, of all processes together, where it was run just now.
    """

    results: pa.Table
    provenance: Mapping[str, Any]
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)

    @classmethod
    def of(
        cls,
        rows: Iterable[Mapping[str, Any]],
        provenance: Mapping[str, Any],
        seconds: Mapping[str, float] | None = None,
    ) -> Evaluation:
        """Build it from rows with the columns of `results`, `config` as a mapping; equal to what `load` reads back."""
        import pyarrow as pa

        plain = json.loads(json.dumps(provenance, sort_keys=True))
        texts = [{**row, "config": json.dumps(row["config"], sort_keys=True)} for row in rows]
        return cls(pa.Table.from_pylist(texts, schema=_schema()), plain, {} if seconds is None else seconds)

    @classmethod
    def load(cls, directory: str | Path) -> Evaluation:
        """Read the results that `report` wrote, which hold all there is; InvalidInput where they are not there or
        damaged."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = Path(directory) / RESULTS
        try:
            results = pq.read_table(path)
            provenance = json.loads((results.schema.metadata or {})[_METADATA])
            if "transfer" not in provenance:
                raise ValueError("written by an earlier version: evaluate again")
            results = results.replace_schema_metadata().cast(_schema())
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())
            raise InvalidInput(
                f"{directory} is not the output of metaquery evaluate: expected its {RESULTS} ({reason})"
            ) from error
        return cls(results, provenance)

    def save(self, path: Path) -> None:
        """Write results and provenance to one Parquet file, the same bytes for equal evaluations."""
        import pyarrow.parquet as pq

        text = json.dumps(self.provenance, sort_keys=True, allow_nan=False)
        pq.write_table(self.results.replace_schema_metadata({_METADATA: text.encode()}), path)

    @staticmethod
    def check_output(directory: str | Path) -> None:
        """Refuse a directory that `report` could not write to."""
        there = [name for name in (RESULTS, PARTS, UNFINISHED) if (Path(directory) / name).exists()]
        check_output(Path(directory), marker=(there or [RESULTS])[0], entries=ENTRIES)

    @cached_property
    def analysis(self) -> Analysis:
        """Curves, ranks, intervals and tests."""
        return Analysis(self.results, self.provenance)

    def summary(self) -> Result:
        """One row per optimizer, the best first: regrets with intervals, final metric, ranks, effort, stops."""
        import pyarrow as pa

        from metaquery.result import Result

        return Result(pa.Table.from_pylist(self.analysis.summary))

    @cached_property
    def failures(self) -> list[str]:
        """What went wrong in the studies whose optimizer raised, a line for each optimizer, dataset and error."""
        return [
            f"{label} on {dataset}, {'seeds' if len(own) > 1 else 'seed'} {', '.join(map(str, own))}: {error}"
            for (label, dataset, error), own in self.analysis.failures.items()
        ]

    def time_of_parts(self) -> str:
        """The CPU time of each part for a terminal, a line each."""
        width = max(map(len, self.seconds), default=0)
        lines = [f"{part.ljust(width)}  {seconds:8.2f} s" for part, seconds in self.seconds.items()]
        total = sum(self.seconds.values())
        return "\n".join(["CPU time", *lines, f"{'together'.ljust(width)}  {total:8.2f} s"])

    def report(self, directory: str | Path) -> Path:
        """Write results, provenance, summary, figures and the report page; the path of the page."""
        from metaquery.report.write import write_report

        return write_report(self, Path(directory))

    def __str__(self) -> str:
        from metaquery.report.table import to_text
        from metaquery.report.tables import leaderboard

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
        "config": text,
        "epoch": integer,
        "cost_seconds": real,
    }
    return pa.schema([pa.field(name, kind, nullable=name in ("test", "test_regret")) for name, kind in types.items()])
