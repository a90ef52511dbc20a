"""Progress of an evaluation on standard error: a bar on a terminal, a line per optimizer and dataset elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

Advance = Callable[[str, str], None]


@contextmanager
def progress(total: int, seeds: int, *, shown: bool) -> Iterator[Advance]:
    """A function to call after each of `total` studies, `seeds` of each optimizer and dataset, with these two."""
    if not shown:
        yield lambda _label, _dataset: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console, total, seeds)
        return
    with _bar(console, total) as advance:
        yield advance


@contextmanager
def _bar(console: Console, total: int) -> Iterator[Advance]:
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("studies", total=total)
        yield lambda label, dataset: bar.update(task, advance=1, description=f"{dataset}  {label}")


def _lines(console: Console, total: int, seeds: int) -> Advance:
    done: Counter[tuple[str, str]] = Counter()

    def advance(label: str, dataset: str) -> None:
        done[label, dataset] += 1
        if done[label, dataset] == seeds:
            said = f"{done.total()}/{total} studies: {label} on {dataset} done"
            console.print(said, highlight=False, soft_wrap=True)

    return advance
