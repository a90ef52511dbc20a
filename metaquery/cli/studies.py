"""Commands that run optimizers: run, evaluate, report and meta-train."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from metaquery.cli.options import kind_options, names, parsed_budget, study_options
from metaquery.types import Charging, Snap


@click.command()
@click.argument("source")
@click.option("--optimizer", "name", required=True, help="Optimizer to run, such as random or dehb.")
@click.option("--dataset", required=True, help="Dataset to run it on.")
@click.option("--kind", default="tabular", show_default=True, help="Kind of benchmark: tabular, surrogate or live.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the optimizer.")
@click.option("--trial-seed", type=int, default=0, show_default=True, help="Seed of the trials, or of their noise.")
@kind_options
@study_options
@click.option("--out", type=click.Path(path_type=Path), help="Directory to write the trajectory to.")
def run(
    source: str,
    name: str,
    dataset: str,
    kind: str,
    seed: int,
    trial_seed: int,
    budget: str | None,
    epochs: int | None,
    trials: int | None,
    metric: str | None,
    fold: int,
    workers: int | None,
    charging: Charging | None,
    snap: Snap | None,
    out: Path | None,
    **of_kind: Any,
) -> None:
    """Run one optimizer on one dataset of a corpus, on a simulated clock.

    One that learns from other datasets is given all of other families.
    """
    from metaquery.corpus import open as open_corpus
    from metaquery.evaluation import history
    from metaquery.optimizers import optimizer, optimizer_class
    from metaquery.study import run as run_study
    from metaquery.trajectory import Trajectory

    limits = parsed_budget(budget, epochs, trials)
    if out is not None:
        Trajectory.check_output(out)
    corpus = open_corpus(source)
    given = {option: value for option, value in of_kind.items() if value not in (None, False)}
    bench = corpus.benchmark(dataset, kind=kind, metric=metric, fold=fold, seed=trial_seed, **given)
    learns = optimizer_class(name).needs_history
    known = history(corpus, dataset, metric=metric, fold=fold) if learns else None
    made = optimizer(name, seed=seed, history=known)
    trajectory = run_study(made, bench, limits, 1 if workers is None else workers, charging or "resume", snap)
    click.echo(trajectory.describe(bench.metric))
    if out is not None:
        trajectory.write(out)
        click.echo(f"written to {out}")


@click.command()
@click.argument("source")
@click.option("--optimizers", required=True, metavar="A,B", help="Optimizers to compare.")
@click.option(
    "--protocol",
    default="lodo",
    show_default=True,
    metavar="NAME|FILE",
    help="What may train a meta-learner: lodo, leave_one_family_out, leave_one_modality_out, quicktune, fixed, single, "
    "or a YAML file of your own. What is not given here is as the protocol says.",
)
@click.option("--seeds", type=int, help="Seeds 0 to N - 1, the same for all.  [default: 10]")
@click.option("--datasets", metavar="A,B", help="Test datasets; those of the protocol by default.")
@click.option("--train", metavar="A,B", help="Training datasets in place of those of the protocol.")
@click.option("--validation", metavar="A,B", help="Validation datasets in place of those of the protocol.")
@study_options
@click.option(
    "--charge-optimizer/--no-charge-optimizer",
    default=None,
    help="Whether the real time that the optimizer takes passes on the clock.  [default: no]",
)
@click.option("--processes", type=int, help="Studies that run at once.  [default: as many as CPUs]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Directory to write the report to.")
def evaluate(
    source: str,
    optimizers: str,
    protocol: str,
    seeds: int | None,
    datasets: str | None,
    train: str | None,
    validation: str | None,
    budget: str | None,
    epochs: int | None,
    trials: int | None,
    metric: str | None,
    fold: int,
    workers: int | None,
    charging: Charging | None,
    snap: Snap | None,
    charge_optimizer: bool | None,
    processes: int | None,
    out: Path,
) -> None:
    """Compare optimizers over the datasets of a corpus; the last line is the path of the report.

    Interrupted, the same command goes on from the finished studies. Exit code 1 where an optimizer failed: the report
    is made of the others' studies, and the failures are named.
    """
    from metaquery.corpus import open as open_corpus
    from metaquery.evaluation import evaluate as evaluate_optimizers

    limited = any(limit is not None for limit in (budget, epochs, trials))
    evaluation = evaluate_optimizers(
        open_corpus(source),
        names(optimizers) or [],
        budget=parsed_budget(budget, epochs, trials) if limited else None,
        protocol=protocol,
        seeds=seeds,
        datasets=names(datasets),
        train=names(train),
        validation=names(validation),
        metric=metric,
        fold=fold,
        workers=workers,
        charging=charging,
        snap=snap,
        charge_optimizer=charge_optimizer,
        processes=os.cpu_count() if processes is None else processes,
        out=out,
        progress=True,
    )
    click.echo(evaluation)
    click.echo(f"\n{evaluation.time_of_parts()}\n")
    click.echo(out / "report" / "index.html")
    for failure in evaluation.failures:
        click.echo(f"failed: {failure}", err=True)
    if evaluation.failures:
        raise SystemExit(1)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
def report(directory: Path) -> None:
    """Build summary, figures and report page of an evaluation again, from its results and provenance alone."""
    from metaquery.evaluation import Evaluation

    click.echo(Evaluation.load(directory).report(directory))


@click.command("meta-train")
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
    training = Histories(corpus, metric, fold, 0).training(names(datasets) or corpus.datasets)
    from metaquery.optimizers.quicktune.meta_training import meta_train, say

    artefact = meta_train(training, settings, say)
    artefact.save(out)
    click.echo(artefact.describe())
    click.echo(f"written to {out}")
