"""The `metaquery` command. Each command imports what it needs when it runs, so that `--help` is instant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from metaquery import __version__
from metaquery.errors import run_cli
from metaquery.result import FORMATS
from metaquery.types import Budget, Charging, parse_duration


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="metaquery")
def cli() -> None:
    """Query a MedCurves corpus and benchmark optimizers on it.

    SOURCE is the name of a bundled corpus (mini) or the path of a sealed one.
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
            click.option("--metric", default="auc", show_default=True, help="Metric to optimise."),
            click.option("--fold", type=int, default=0, show_default=True, help="Fold of the dataset."),
            click.option("--workers", type=int, default=1, show_default=True, help="Evaluations that run at once."),
            click.option(
                "--charging",
                type=click.Choice(["resume", "restart"]),
                default="resume",
                show_default=True,
                help="Whether training on costs the new epochs only, or all of them again.",
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
    metric: str,
    fold: int,
    workers: int,
    charging: Charging,
    out: Path | None,
) -> None:
    """Run one optimizer on one dataset of a corpus, on a simulated clock."""
    from metaquery.corpus import open as open_corpus
    from metaquery.optimizers import optimizer
    from metaquery.study import Trajectory
    from metaquery.study import run as run_study

    limits = _budget(budget, epochs, trials)
    if out is not None:
        Trajectory.check_output(out)
    bench = open_corpus(source).benchmark(dataset, kind=kind, metric=metric, fold=fold)
    trajectory = run_study(optimizer(name, seed=seed), bench, limits, workers, charging)
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
    metric: str,
    fold: int,
    workers: int,
    charging: Charging,
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
        out=out,
        progress=True,
    )
    click.echo(evaluation)
    click.echo(out / "report" / "index.html")


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
