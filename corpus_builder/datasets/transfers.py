"""Progress of downloads on stderr: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

_PLAIN_INTERVAL_SECONDS = 20.0


class Transfers:
    """A watcher of `fetch`."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr)
        self._last_line = time.monotonic()
        self._bar = Progress(
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
            redirect_stdout=False,  # it may be a file
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", visible=False, total=None)

    def __enter__(self) -> Transfers:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line above the bar, which begins anew."""
        self._bar.reset(self._task, visible=False, total=None)
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def progress(self, done: int, length: int | None) -> None:
        """Show that `done` bytes of `length`, if known, are there."""
        self._bar.update(self._task, completed=done, total=length, visible=True)
        if not self._console.is_terminal and time.monotonic() - self._last_line > _PLAIN_INTERVAL_SECONDS:
            self._last_line = time.monotonic()
            self.say(f"{done / 1e6:.1f} MB" + ("" if length is None else f" of {length / 1e6:.1f} MB"))
