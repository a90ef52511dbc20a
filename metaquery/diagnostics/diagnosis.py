"""The diagnostics of a corpus, as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metaquery.diagnostics.findings import finding
from metaquery.diagnostics.parts import PARTS, Row
from metaquery.diagnostics.source import Source
from metaquery.metrics import metric as metric_called
from metaquery.outputs import check_output, new_directory
from metaquery.result import Result

if TYPE_CHECKING:
    from metaquery.corpus import Corpus

PAGE = "index.html"
NOTHING = "The corpus cannot tell."
_ENTRIES = frozenset({PAGE, *(f"{name}.csv" for name in PARTS)})


@dataclass(frozen=True)
class Part:
    """One table of a diagnosis, what it says, and in a sentence what was found ("" where nothing was)."""

    title: str
    about: str
    finding: str
    result: Result


@dataclass(frozen=True)
class Diagnosis:
    """The diagnostics of a corpus by one metric: tables by name, in order."""

    corpus: str
    metric: str
    parts: dict[str, Part]

    def __str__(self) -> str:
        texts = [f"{self.corpus}, by {self.metric}; null stands for too few to tell"]
        for part in self.parts.values():
            heading = " ".join(filter(None, (f"{part.title}. {part.about}", part.finding)))
            texts.append(f"{heading}\n\n{part.result if len(part.result) else NOTHING}")
        return "\n\n".join(texts)

    @staticmethod
    def check_output(directory: str | Path) -> None:
        """Refuse a directory that `write` could not write to; raises InvalidInput."""
        check_output(Path(directory), marker=PAGE, entries=_ENTRIES)

    def write(self, directory: Path) -> Path:
        """Write every table as CSV and a page with figures to `directory`; the path of the page.

        Raises InvalidInput where the directory holds something else.
        """
        from metaquery.diagnostics.page import page

        with new_directory(directory, marker=PAGE, entries=_ENTRIES) as new:
            for name, part in self.parts.items():
                part.result.write("csv", new / f"{name}.csv")
            (new / PAGE).write_text(page(self), encoding="utf-8")
        return directory / PAGE


def diagnose(corpus: Corpus, metric: str | None = None) -> Diagnosis:
    """The diagnostics of `corpus` by the values of `metric`, by default the corpus's `default_metric`.

    What a corpus has too little of to tell, such as the noise of seeds where none was repeated, is null.
    """
    source = Source(corpus, metric_called(metric or corpus.default_metric))
    return Diagnosis(
        f"{corpus.name} {corpus.version}",
        source.metric.name,
        {name: _part(name, find, source) for name, find in PARTS.items()},
    )


def _part(name: str, find: Callable[[Source], Iterator[Row]], source: Source) -> Part:
    import pyarrow as pa

    title, _, about = (find.__doc__ or "").partition("\n\n")
    rows = [
        {name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in row.items()}
        for row in find(source)
    ]
    result = Result(pa.Table.from_pylist(rows))
    return Part(title.rstrip("."), " ".join(about.split()), finding(name, rows, source.metric.name), result)
