"""Progress of a run: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from corpus_builder.train.records import TrialResult
from metaquery.types import Status

_PLAIN_INTERVAL_SECONDS = 20.0


class Progress:
    """Counts finished trials by status and shows them on stderr."""

    def __init__(self, total: int, done: int) -> None:
        self.statuses: Counter[str] = Counter()
        self._total, self._already = total, done
        self._console = Console(file=sys.stderr)
        self._started = self._last_line = time.monotonic()
        self._bar = RichProgress(
            TextColumn("trials"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("trials", total=total, completed=done, note="")

    def __enter__(self) -> Progress:
        self._bar.start()
        if self._already:
            self.note(f"{self._already} of {self._total} trials were done before")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if kind is None and not self._console.is_terminal:
            self._line()

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def trial(self, result: TrialResult) -> None:
        """Count a finished trial."""
        self.statuses[str(result.status)] += 1
        self._bar.update(self._task, advance=1, note=self._failures())
        if not self._console.is_terminal and time.monotonic() - self._last_line > _PLAIN_INTERVAL_SECONDS:
            self._line()

    def _line(self) -> None:
        self._last_line = time.monotonic()
        done = sum(self.statuses.values())
        rate = done / max(self._last_line - self._started, 1e-9) * 3600
        self.note(f"{self._already + done}/{self._total} trials, {rate:.0f} an hour{self._failures(', ')}")

    def _failures(self, separator: str = "") -> str:
        failed = [f"{count} {status}" for status, count in sorted(self.statuses.items()) if status != Status.COMPLETED]
        return separator + ", ".join(failed) if failed else ""
