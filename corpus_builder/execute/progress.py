"""Progress of a run: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from metaquery.types import Status

_PLAIN_INTERVAL_SECONDS = 20.0


class Progress:
    """Counts finished trials, of which those of `before` were stored before, and shows them on stderr."""

    def __init__(self, total: int, before: set[str]) -> None:
        self.statuses: Counter[str] = Counter()  # of the trials that this run did
        self._total, self._done, self._before = total, before, len(before)
        self._epochs = 0
        self._console = Console(file=sys.stderr)
        self._started = self._last_line = time.monotonic()
        self._bar = RichProgress(
            TextColumn("trials"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("trials", total=total, completed=self._before, note="")

    def __enter__(self) -> Progress:
        self._bar.start()
        if self._before:
            self.note(f"{self._before} of {self._total} trials were done before")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if kind in (None, KeyboardInterrupt) and not self._console.is_terminal:
            self._line()

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def trial(self, trial_id: str, status: str, epochs: int, own: bool = True) -> None:
        """Count a finished trial, once; one that is not `own` was done by another run."""
        if trial_id in self._done:
            return
        self._done.add(trial_id)
        if own:
            self.statuses[status] += 1
            self._epochs += epochs
        self._bar.update(self._task, completed=len(self._done), note=self._summary())
        if not self._console.is_terminal and time.monotonic() - self._last_line > _PLAIN_INTERVAL_SECONDS:
            self._line()

    def _line(self) -> None:
        self._last_line = time.monotonic()
        self.note(f"{len(self._done)}/{self._total} trials, {self._summary()}")

    def _summary(self) -> str:
        """Epochs, speed, time left and failures by kind, since the start of this run."""
        done = len(self._done)
        per_second = (done - self._before) / max(time.monotonic() - self._started, 1e-9)
        parts = [f"{self._epochs} epochs", f"{per_second * 3600:.0f} trials an hour"]
        if per_second and done < self._total:
            parts.append(f"{timedelta(seconds=round((self._total - done) / per_second))} left")
        failed = sorted((status, n) for status, n in self.statuses.items() if status != Status.COMPLETED)
        return ", ".join([*parts, *(f"{n} {status}" for status, n in failed)])
