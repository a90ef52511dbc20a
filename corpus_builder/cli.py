"""The `corpus-builder` command. Each command imports what it needs when it runs, so that `--help` is instant."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from corpus_builder import __version__
from metaquery.errors import EXIT_BAD_INPUT, InvalidInput, run_cli

PathType = click.Path(path_type=Path)


def _root_option(name: str, variable: str, what: str) -> Callable[[Any], Any]:
    return click.option(name, type=PathType, envvar=variable, show_envvar=True, help=f"Directory of {what}.")


data_root_option = _root_option("--data-root", "MEDCURVES_DATA", "the datasets' files")
weights_root_option = _root_option("--weights-root", "MEDCURVES_WEIGHTS", "the pretrained weights")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="corpus-builder")
def cli() -> None:
    """Fine-tune backbones on medical image datasets and seal the learning curves into a corpus."""


@cli.group(invoke_without_command=True)
@data_root_option
@click.pass_context
def datasets(ctx: click.Context, data_root: Path | None) -> None:
    """List the datasets that have a card: modality, size, licence, and whether the files are present."""
    from corpus_builder.datasets import listing

    ctx.obj = data_root
    if ctx.invoked_subcommand is None:
        _print_table(listing(data_root))


@datasets.command("check")
@click.argument("card", metavar="CARD")
@click.option("--data-root", type=PathType, help="Directory of the datasets' files; else as for `datasets`.")
@click.pass_context
def check_dataset(ctx: click.Context, card: str, data_root: Path | None) -> None:
    """Say everything that is wrong with a data card or its files. CARD is a name, or the path of a Markdown file.

    Prints `sound` and a summary, or one line per problem on stderr, and then ends with exit code 2. Every other
    command stops at the first problem with one line.
    """
    from corpus_builder.datasets import examine

    found = examine(card, ctx.obj if data_root is None else data_root)
    if not found.sound:
        for problem in found.problems:
            click.echo(f"error: {problem}", err=True)
        ctx.exit(EXIT_BAD_INPUT)
    click.echo(f"sound: {found.summary}")


@cli.command()
@weights_root_option
def backbones(weights_root: Path | None) -> None:
    """List the backbones: dimensions, parameters, pretraining, licence, and whether the weights are present."""
    from corpus_builder.backbones.describe import listing

    _print_table(listing(weights_root))


@cli.command()
@click.argument("study", type=PathType)
@click.option("--out", type=PathType, required=True, help="Parquet file to write.")
def plan(study: Path, out: Path) -> None:
    """Turn a study (YAML) into the list of its trials."""
    from collections import Counter

    from corpus_builder.plan import make_plan, write_plan
    from corpus_builder.study import load_study

    made = make_plan(load_study(study))
    write_plan(made, out)
    counts = Counter((trial.spec.dataset, str(trial.spec.config["backbone"])) for trial in made.trials)
    _print_table([{"dataset": d, "backbone": b, "trials": n} for (d, b), n in sorted(counts.items())])
    click.echo(f"{out}: {len(made.trials)} trials of {made.study.epochs} epochs in {len(made.units)} units")


@cli.command()
@click.argument("plan_file", metavar="PLAN", type=PathType)
@click.option("--run-dir", type=PathType, required=True, help="Directory of the run; an interrupted run goes on there.")
@data_root_option
@weights_root_option
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Processes; on a CPU each uses one core.",
)
def run(
    plan_file: Path, run_dir: Path, data_root: Path | None, weights_root: Path | None, device: str, workers: int
) -> None:
    """Run what is not yet run of a plan."""
    from corpus_builder.execute import Place, run_plan
    from corpus_builder.plan import read_plan

    place = Place(data_root, weights_root, device)
    counts = run_plan(read_plan(plan_file), run_dir, place, workers=workers)
    done = ", ".join(f"{n} {status}" for status, n in sorted(counts.items())) or "nothing was left to do"
    click.echo(f"{run_dir}: {done}; next: corpus-builder seal {run_dir} --out CORPUS")


@cli.command()
@click.argument("run_dir", metavar="RUN", type=PathType)
def status(run_dir: Path) -> None:
    """Say how far a run is, by dataset and backbone, and what failed."""
    from corpus_builder.execute import RunDirectory
    from corpus_builder.execute.status import run_status

    counted = run_status(RunDirectory.open(run_dir))
    _print_table(counted.rows)
    for line in counted.failures:
        click.echo(line)


@cli.command()
@click.argument("run_dir", metavar="RUN", type=PathType)
@click.option("--out", type=PathType, required=True, help="Directory of the corpus to make.")
@click.option("--partial", is_flag=True, help="Seal an unfinished run: what is there.")
def seal(run_dir: Path, out: Path, partial: bool) -> None:
    """Seal a run into a corpus: tables, predictions, checksums."""
    from corpus_builder.seal import seal as seal_run

    seal_run(run_dir, out, partial=partial)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    click.echo(f"{out}: sealed, {size / 1e6:.1f} MB; look at it with: metaquery info {out}")


@cli.command()
@click.argument("corpus", type=PathType)
@click.argument("trial_id")
@data_root_option
@weights_root_option
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
def replay(corpus: Path, trial_id: str, data_root: Path | None, weights_root: Path | None, device: str) -> None:
    """Train one trial of a corpus again from its recorded identity and compare the curves."""
    from corpus_builder.execute import Place
    from corpus_builder.replay import replay as replay_trial

    differences = replay_trial(corpus, trial_id, Place(data_root, weights_root, device))
    _print_table([{"column": name, "largest difference": f"{value:.3g}"} for name, value in differences.items()])
    worst = max(differences.values())
    click.echo(f"{trial_id}: {'the same curve, bit by bit' if worst == 0 else f'largest difference {worst:.3g}'}")


def _print_table(rows: list[dict[str, Any]]) -> None:
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


def main() -> None:
    """Entry point of the console script."""
    run_cli(cli)
