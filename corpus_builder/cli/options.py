"""What several commands share: options and tables."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from metaquery.errors import InvalidInput

PathType = click.Path(path_type=Path)


def _root_option(name: str, variable: str, what: str) -> Callable[[Any], Any]:
    return click.option(name, type=PathType, envvar=variable, show_envvar=True, help=f"Directory of {what}.")


data_root_option = _root_option("--data-root", "MEDCURVES_DATA", "the datasets' files")
weights_root_option = _root_option("--weights-root", "MEDCURVES_WEIGHTS", "the pretrained weights")


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print `rows`, with the same keys each, as a table."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    if not rows:
        raise InvalidInput("nothing to show")
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name, value in rows[0].items():
        shown.add_column(name, justify="right" if isinstance(value, int) else "left", overflow="fold")
    for row in rows:
        shown.add_row(*[str(value) for value in row.values()])
    width = None if os.isatty(1) else 200  # a pipe has no width: do not break lines there
    Console(width=width).print(shown)
