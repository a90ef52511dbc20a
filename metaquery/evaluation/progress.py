"""Progress of an evaluation on standard error: a bar on a terminal, a line per optimizer and dataset elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

Advance = Callable[[str, str], None]


@contextmanager
def progress(total: int, *, shown: bool) -> Iterator[Advance]:
    """A function to call after each of `total` studies with its optimizer and dataset."""
    if not shown:
        yield lambda _label, _dataset: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    with (_bar if console.is_terminal else _lines)(console, total) as advance:
        yield advance


@contextmanager
def _bar(console: Console, total: int) -> Iterator[Advance]:
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("studies", total=total)
        yield lambda label, dataset: bar.update(task, advance=1, description=f"{dataset}  {label}")


@contextmanager
def _lines(console: Console, total: int) -> Iterator[Advance]:
    studies: list[tuple[str, str]] = []  # optimizer and dataset of every study so far

    def advance(label: str, dataset: str) -> None:
        if studies and studies[-1] != (label, dataset):
            say()
        studies.append((label, dataset))
        if len(studies) == total:
            say()

    def say() -> None:
        label, dataset = studies[-1]
        console.print(f"{len(studies)}/{total} studies: {label} on {dataset} done", highlight=False, soft_wrap=True)

    yield advance
