"""What several commands share: options, and what their texts mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from metaquery.types import Budget, parse_duration


def study_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that `run` and `evaluate` share."""
    for option in reversed(
        (
            click.option("--budget", metavar="TIME", help="Simulated time of a study, such as 90s, 45m, 1h or 2d."),
            click.option("--epochs", type=int, help="Newly trained epochs of a study."),
            click.option("--trials", type=int, help="Finished evaluations of a study."),
            click.option("--metric", help="Metric to optimise; by default AUC, or what an imported corpus has."),
            click.option("--fold", type=int, default=0, show_default=True, help="Fold of the dataset."),
            click.option("--workers", type=int, help="Evaluations that run at once.  [default: 1]"),
            click.option(
                "--charging",
                type=click.Choice(["resume", "restart"]),
                help="Whether training on costs the new epochs only, or all of them again.  [default: resume]",
            ),
            click.option(
                "--snap",
                type=click.Choice(["nearest"]),
                help="On a table, let the nearest config not yet used stand in for one that is not in it.",
            ),
        )
    ):
        command = option(command)
    return command


def kind_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of the kinds of benchmark, called as in `corpus.benchmark`; None or false where not given."""
    directory = click.Path(file_okay=False, path_type=Path)
    for option in reversed(
        (
            click.option("--noise", is_flag=True, help="Kind surrogate: single trials, not the mean over their seeds."),
            click.option(
                "--file",
                type=click.Path(dir_okay=False, path_type=Path),
                help="Kind surrogate: file of the surrogate.  [default: that of  metaquery surrogate train]",
            ),
            click.option("--data-root", type=directory, help="Kind live: images.  [default: MEDCURVES_DATA]"),
            click.option(
                "--weights-root", type=directory, help="Kind live: pretrained weights.  [default: MEDCURVES_WEIGHTS]"
            ),
            click.option("--device", help="Kind live: device to train on, such as cuda.  [default: cpu]"),
            click.option(
                "--checkpoints", type=directory, help="Kind live: directory to keep checkpoints in.  [default: none]"
            ),
        )
    ):
        command = option(command)
    return command


def parsed_budget(duration: str | None, epochs: int | None, trials: int | None) -> Budget:
    """The budget of a study."""
    return Budget(None if duration is None else parse_duration(duration), epochs, trials)


def names(text: str | None) -> list[str] | None:
    """The names in a list that is separated by commas."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
