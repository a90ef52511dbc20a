"""The `metaquery` command. Each command imports what it needs when it runs, so that `--help` is instant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from metaquery import __version__
from metaquery.errors import run_cli
from metaquery.result import FORMATS
from metaquery.types import Budget, Charging, Snap, parse_duration


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="metaquery")
def cli() -> None:
    """Query a MedCurves corpus and benchmark optimizers on it.

    SOURCE is the name of a bundled corpus (mini) or the path of a sealed one; several, joined by commas, are opened as
    one.
    """


@cli.command()
@click.argument("source")
def info(source: str) -> None:
    """Say what a corpus holds: datasets, backbones, trials by status, hours, devices."""
    from metaquery.corpus import open as open_corpus

    click.echo(open_corpus(source).describe())


@cli.command()
@click.argument("source")
def verify(source: str) -> None:
    """Check every checksum, row count, key and curve of a corpus; exit code 1 when something is wrong."""
    from metaquery.verify import verify as verify_corpus

    problems = verify_corpus(source)
    for problem in problems:
        click.echo(problem)
    click.echo(f"{source}: {f'{len(problems)} problems' if problems else 'sound'}")
    if problems:
        raise SystemExit(1)


@cli.command()
@click.argument("source")
@click.argument("query")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write; needed for parquet.")
def sql(source: str, query: str, form: str, out: Path | None) -> None:
    """Run a read-only SQL query (DuckDB) over the tables of a corpus."""
    from metaquery.corpus import open as open_corpus

    text = open_corpus(source).sql(query).write(form, out)
    if text is not None:
        click.echo(text)


def _budget_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that `run` and `evaluate` share."""
    for option in reversed(
        (
            click.option("--budget", metavar="TIME", help="Simulated time of a study, such as 90s, 45m, 1h or 2d."),
            click.option("--epochs", type=int, help="Newly trained epochs of a study."),
            click.option("--trials", type=int, help="Finished evaluations of a study."),
            click.option("--metric", help="Metric to optimise; by default AUC, or what an imported corpus has."),
            click.option("--fold", type=int, default=0, show_default=True, help="Fold of the dataset."),
            click.option("--workers", type=int, default=1, show_default=True, help="Evaluations that run at once."),
            click.option(
                "--charging",
                type=click.Choice(["resume", "restart"]),
                default="resume",
                show_default=True,
                help="Whether training on costs the new epochs only, or all of them again.",
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


@cli.command()
@click.argument("source")
@click.option("--optimizer", "name", required=True, help="Optimizer to run, such as random or dehb.")
@click.option("--dataset", required=True, help="Dataset to run it on.")
@click.option("--kind", default="tabular", show_default=True, help="Kind of benchmark.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the optimizer.")
@_budget_options
@click.option("--out", type=click.Path(path_type=Path), help="Directory to write the trajectory to.")
def run(
    source: str,
    name: str,
    dataset: str,
    kind: str,
    seed: int,
    budget: str | None,
    epochs: int | None,
    trials: int | None,
    metric: str | None,
    fold: int,
    workers: int,
    charging: Charging,
    snap: Snap | None,
    out: Path | None,
) -> None:
    """Run one optimizer on one dataset of a corpus, on a simulated clock.

    One that learns from other datasets is given all of other families.
    """
    from metaquery.corpus import open as open_corpus
    from metaquery.evaluation import history
    from metaquery.optimizers import optimizer, optimizer_class
    from metaquery.study import Trajectory
    from metaquery.study import run as run_study

    limits = _budget(budget, epochs, trials)
    if out is not None:
        Trajectory.check_output(out)
    corpus = open_corpus(source)
    bench = corpus.benchmark(dataset, kind=kind, metric=metric, fold=fold)
    learns = optimizer_class(name).needs_history
    known = history(corpus, dataset, metric=metric, fold=fold) if learns else None
    trajectory = run_study(optimizer(name, seed=seed, history=known), bench, limits, workers, charging, snap)
    click.echo(trajectory.describe(bench.metric))
    if out is not None:
        trajectory.write(out)
        click.echo(f"written to {out}")


@cli.command()
@click.argument("source")
@click.option("--optimizers", required=True, metavar="A,B", help="Optimizers to compare.")
@click.option("--protocol", default="lodo", show_default=True, help="lodo or single: what may train a meta-learner.")
@click.option("--seeds", type=int, default=10, show_default=True, help="Seeds 0 to N - 1, the same for all.")
@click.option("--datasets", metavar="A,B", help="Test datasets; all of the corpus by default.")
@click.option(
    "--train", metavar="A,B", help="Training datasets; by default all of other families than the test dataset."
)
@_budget_options
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Directory to write the report to.")
def evaluate(
    source: str,
    optimizers: str,
    protocol: str,
    seeds: int,
    datasets: str | None,
    train: str | None,
    budget: str | None,
    epochs: int | None,
    trials: int | None,
    metric: str | None,
    fold: int,
    workers: int,
    charging: Charging,
    snap: Snap | None,
    out: Path,
) -> None:
    """Compare optimizers over the datasets of a corpus; the last line is the path of the report."""
    from metaquery.corpus import open as open_corpus
    from metaquery.evaluation import evaluate as evaluate_optimizers

    evaluation = evaluate_optimizers(
        open_corpus(source),
        _names(optimizers) or [],
        budget=_budget(budget, epochs, trials),
        protocol=protocol,
        seeds=seeds,
        datasets=_names(datasets),
        train=_names(train),
        metric=metric,
        fold=fold,
        workers=workers,
        charging=charging,
        snap=snap,
        out=out,
        progress=True,
    )
    click.echo(evaluation)
    click.echo(out / "report" / "index.html")


@cli.command("import")
@click.argument("form", metavar="FORMAT")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Directory of the new corpus.")
def import_(form: str, path: Path, out: Path) -> None:
    """Make a corpus of other people's learning curves, and say what was dropped, flagged or assumed.

    FORMAT is quicktune, medquicktune or lcbench, with PATH as they are distributed, or table, with PATH a YAML file
    that maps the columns of any CSV or Parquet file.
    """
    from metaquery.importers import import_corpus

    for note in import_corpus(form, path, out):
        click.echo(f"- {note}")
    click.echo(f"written to {out}")


@cli.command("meta-train")
@click.argument("source")
@click.option("--datasets", metavar="A,B", help="Training datasets; all of the corpus by default.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File to write.")
@click.option("--steps", type=int, default=10_000, show_default=True, help="Steps of meta-training.")
@click.option("--grey-box/--no-grey-box", default=True, help="Whether the predictors read the curve so far.")
@click.option("--metafeatures/--no-metafeatures", default=True, help="Whether they read meta-features.")
@click.option("--metric", help="Metric to predict; by default AUC, or what an imported corpus has.")
@click.option("--fold", type=int, default=0, show_default=True, help="Fold of the datasets.")
def meta_train(
    source: str,
    datasets: str | None,
    out: Path,
    steps: int,
    grey_box: bool,
    metafeatures: bool,
    metric: str | None,
    fold: int,
) -> None:
    """Meta-train quicktune on datasets of a corpus, for  --optimizer quicktune:artefact=FILE."""
    from metaquery.corpus import open as open_corpus
    from metaquery.evaluation.histories import Histories
    from metaquery.optimizers import optimizer_class
    from metaquery.optimizers.quicktune.artefact import Settings

    optimizer_class("quicktune").installed()
    settings = Settings(steps, grey_box, metafeatures)
    corpus = open_corpus(source)
    training = Histories(corpus, metric, fold, 0).training(_names(datasets) or corpus.datasets)
    from metaquery.optimizers.quicktune.meta_training import meta_train, say

    artefact = meta_train(training, settings, say)
    artefact.save(out)
    click.echo(artefact.describe())
    click.echo(f"written to {out}")


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
def report(directory: Path) -> None:
    """Build summary, figures and report page of an evaluation again, from its results and provenance alone."""
    from metaquery.evaluation import Evaluation

    click.echo(Evaluation.load(directory).report(directory))


def _budget(duration: str | None, epochs: int | None, trials: int | None) -> Budget:
    return Budget(None if duration is None else parse_duration(duration), epochs, trials)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def main() -> None:
    """Entry point of the console script."""
    run_cli(cli)
