"""The `corpus-builder` command. Each command imports what it needs when it runs, so that `--help` is instant."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from corpus_builder import __version__
from metaquery.errors import EXIT_BAD_INPUT, InvalidInput, run_cli

if TYPE_CHECKING:
    from corpus_builder.execute.engine import Engine

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
@click.option("--all", "every", is_flag=True, help="One line for each size of a dataset that has several.")
@click.pass_context
def datasets(ctx: click.Context, data_root: Path | None, every: bool) -> None:
    """List the datasets that have a card: modality, size, licence, and whether the files are present.

    `fetch` under present: `corpus-builder datasets fetch` can get the files.
    """
    from corpus_builder.datasets.listing import folded, listing

    ctx.obj = data_root
    if ctx.invoked_subcommand is None:
        rows = listing(data_root)
        print_table(rows if every else folded(rows))
        if not every:
            click.echo("Each size of a dataset has its own name (pathmnist, pathmnist_64); --all shows them.")


@datasets.command("check")
@click.argument("card", metavar="CARD")
@click.option("--data-root", type=PathType, help="Directory of the datasets' files; else as for `datasets`.")
@click.option(
    "--against",
    metavar="NAME",
    multiple=True,
    help="Also look for copies of its images in this dataset (several times, or all: those present).",
)
@click.pass_context
def check_dataset(ctx: click.Context, card: str, data_root: Path | None, against: tuple[str, ...]) -> None:
    """Say everything that is wrong with a data card or its files. CARD is a name, or the path of a Markdown file.

    Prints `sound` and a summary, or one line per problem on stderr, and then ends with exit code 2. Every other
    command stops at the first problem with one line. Copies are found whatever their size, compression, grey scale,
    orientation or slight crop; slices of volumes are not.
    """
    from corpus_builder.datasets import examine

    found = examine(card, ctx.obj if data_root is None else data_root, against)
    for remark in found.remarks:
        click.echo(remark)
    if not found.sound:
        for problem in found.problems:
            click.echo(f"error: {problem}", err=True)
        ctx.exit(EXIT_BAD_INPUT)
    click.echo(f"sound: {found.summary}")


@datasets.command("cache")
@click.option("--clear", "clearing", is_flag=True, help="Remove all entries; they are made again when needed.")
def show_cache(clearing: bool) -> None:
    """Show the prepared datasets kept in MEDCURVES_CACHE, else in the user's cache directory, and their sizes."""
    from corpus_builder.datasets import cache
    from metaquery.cache import cache_directory

    found = cache.clear() if clearing else cache.entries()
    if found:
        print_table([{"dataset": e.dataset, "size": e.size, "MB": f"{e.n_bytes / 1e6:.1f}"} for e in found])
    total = f"{len(found)} entries, {sum(entry.n_bytes for entry in found) / 1e6:.1f} MB"
    click.echo(f"{cache_directory()}: {'removed ' if clearing else ''}{total}")


@datasets.command("fetch")
@click.argument("cards", metavar="CARD...", nargs=-1, required=True)
@click.option("--data-root", type=PathType, help="Directory to put the files below; else as for `datasets`.")
@click.option("--mirror", metavar="URL", help="Try there first: the address of a copy of a data root or of its files.")
@click.pass_context
def fetch_datasets(ctx: click.Context, cards: tuple[str, ...], data_root: Path | None, mirror: str | None) -> None:
    """Download the files of data cards that give their addresses. CARD is a name, or the path of a Markdown file.

    Files that are there are verified and left. An interrupted download goes on where it stopped.
    """
    from corpus_builder.datasets.cards import load_card
    from corpus_builder.datasets.fetch import fetch
    from corpus_builder.datasets.transfers import Transfers

    for card in [load_card(name) for name in cards]:
        with Transfers() as transfers:
            files = fetch(card, ctx.obj if data_root is None else data_root, transfers, mirror)
        for path, new in files.items():
            click.echo(f"{path}: {'fetched' if new else 'was there'}")


@datasets.command("describe")
@click.argument("card", metavar="CARD")
@click.option("--data-root", type=PathType, help="Directory of the datasets' files; else as for `datasets`.")
@weights_root_option
@click.option("--size", metavar="HxW", help="Size to prepare it at.  [default: 64x64 or 32x32x32]")
@click.pass_context
def describe_dataset(
    ctx: click.Context, card: str, data_root: Path | None, weights_root: Path | None, size: str | None
) -> None:
    """Measure the meta-features of a dataset: value, seconds and meaning of each, on the training part of fold 0.

    CARD is a name, or the path of a Markdown file.
    """
    from corpus_builder.metafeatures.describe import describe

    rows, notes = describe(card, ctx.obj if data_root is None else data_root, weights_root, size)
    print_table(rows)
    for note in notes:
        click.echo(note)


@cli.group(invoke_without_command=True)
@weights_root_option
@click.option("--portfolio", metavar="NAME", help="List the backbones of a portfolio instead: quicktune.")
@click.pass_context
def backbones(ctx: click.Context, weights_root: Path | None, portfolio: str | None) -> None:
    """List the backbones: dimensions, parameters, pretraining, licence, and whether the weights are present.

    Beside those listed, every 2-D model of timm is one: timm:NAME.TAG, or timm:NAME.scratch for random weights. In a
    study and for `fetch`, portfolio:NAME stands for all backbones of a portfolio.
    """
    from corpus_builder.backbones.describe import listing
    from corpus_builder.backbones.portfolios import members

    ctx.obj = weights_root
    if ctx.invoked_subcommand is None:
        print_table(listing(weights_root, None if portfolio is None else members(portfolio)))


@backbones.command("fetch")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--weights-root", type=PathType, help="Directory to put the files below; else as for `backbones`.")
@click.pass_context
def fetch_backbones(ctx: click.Context, names: tuple[str, ...], weights_root: Path | None) -> None:
    """Download pretrained weights from the Hugging Face Hub, or from the Hub that HF_ENDPOINT says.

    Files that are there are left. An interrupted download goes on where it stopped.
    """
    from corpus_builder.backbones.fetch import fetch
    from corpus_builder.backbones.portfolios import expand_portfolios
    from corpus_builder.datasets.transfers import Transfers

    with Transfers() as transfers:
        for name in expand_portfolios(names):
            path, new = fetch(name, ctx.obj if weights_root is None else weights_root, transfers)
            click.echo(f"{path}: {'fetched' if new else 'was there'}")


@cli.command()
@click.argument("study", type=PathType)
@click.option("--out", type=PathType, required=True, help="Parquet file to write.")
@click.option(
    "--budget", metavar="TIME", help="Keep what tells the most within this time of one device, such as 90m, 10h or 2d."
)
@click.option(
    "--gflops-per-second",
    type=click.FloatRange(min=0, min_open=True),
    help="Rate at which costs are predicted.  [default: that of one CPU core]",
)
@click.option("--longest", metavar="TIME", help="Leave out trials that will probably take longer, each, than this.")
@click.option("--calibration", type=PathType, help="Predict costs from measurements instead; see calibrate.")
def plan(
    study: Path,
    out: Path,
    budget: str | None,
    gflops_per_second: float | None,
    longest: str | None,
    calibration: Path | None,
) -> None:
    """Turn a study (YAML) into the list of its trials, in units of work, with what they will probably cost.

    With a budget, first the default configuration of every dataset and backbone is kept, then configurations spread
    over the search space, as many for each as there is time for.
    """
    from corpus_builder.cost import NOMINAL_GFLOPS_PER_SECOND, calibrated_cost, nominal_cost
    from corpus_builder.execute.engine import load_calibration
    from corpus_builder.plan import make_plan, summary, write_plan
    from corpus_builder.study import load_study
    from metaquery.types import parse_duration

    loaded = load_study(study)
    total, each = (None if limit is None else parse_duration(limit) for limit in (budget, longest))
    rate = NOMINAL_GFLOPS_PER_SECOND if gflops_per_second is None else gflops_per_second
    known = None if calibration is None else load_calibration(calibration)
    cost = nominal_cost(loaded, rate) if known is None else calibrated_cost(loaded, known)
    made = make_plan(loaded, cost, total, each)
    write_plan(made, out)
    rows, lines = summary(made)
    print_table(rows)
    for line in (f"{out}: {lines[0]}", *lines[1:]):
        click.echo(line)
    click.echo(
        f"Hours are predicted from floating-point operations at {rate:g} GFLOP/s, without a calibration."
        if known is None
        else f"Hours are predicted from the calibration of {known.device}."
    )


@cli.command()
@click.argument("plan_file", metavar="PLAN", type=PathType)
@click.option("--out", type=PathType, required=True, help="File of the calibration; what it has is not measured again.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--width", "widths", type=click.IntRange(2, 1024), multiple=True, help="Fused trials to time, too.")
@data_root_option
@weights_root_option
def calibrate(
    plan_file: Path, out: Path, device: str, widths: tuple[int, ...], data_root: Path | None, weights_root: Path | None
) -> None:
    """Measure what the trials of a plan cost on this device, each kind alone: do it while nothing else runs."""
    from corpus_builder.execute import Place
    from corpus_builder.execute.engine import calibrate_plan
    from corpus_builder.plan import read_plan

    measured = calibrate_plan(read_plan(plan_file), Place(data_root, weights_root, device), out, widths)
    click.echo(f"{out}: {measured} measurements on {device}; use it with: plan --calibration, run --calibration")


@cli.command()
@click.argument("plan_file", metavar="PLAN", type=PathType)
@click.option("--run-dir", type=PathType, required=True, help="Directory of the run; an interrupted run goes on there.")
@data_root_option
@weights_root_option
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="cpu, cuda or cuda:N; with cuda, workers take the GPUs that they see in turn.",
)
@click.option("--workers", type=click.IntRange(1, 4096), help="Processes; on a CPU each uses one core.  [default: 1]")
@click.option(
    "--scheduler",
    metavar="NAME",
    help="inline, local, slurm, or tcp://HOST:PORT of a Dask scheduler.  [default: inline, or local with --workers]",
)
@click.option("--slurm", type=PathType, metavar="YAML", help="What to ask SLURM for (schemas/slurm.schema.json).")
@click.option("--dry-run", is_flag=True, help="Print the SLURM job script and do nothing.")
@click.option(
    "--stall-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="End a worker whose trial takes longer; the trial is run once more, then counts as failed.",
)
@click.option(
    "--beat",
    type=click.FloatRange(min=0.05),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How often a worker shows that it lives; after 12 missed beats others take its unit over.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "single", "fused"]),
    default="auto",
    show_default=True,
    help="auto fuses the trials for which the calibration says that it pays.",
)
@click.option("--calibration", type=PathType, help="Where the costs of fused trials come from; see calibrate.")
def run(
    plan_file: Path,
    run_dir: Path,
    data_root: Path | None,
    weights_root: Path | None,
    device: str,
    engine: Engine,
    calibration: Path | None,
    workers: int | None,
    scheduler: str | None,
    slurm: Path | None,
    dry_run: bool,
    stall_limit: float | None,
    beat: float,
) -> None:
    """Run what is not yet run of a plan.

    Several of these may run in one directory, on one machine or on many: they share the work. A plan that adds trials
    to the one that the directory was begun for runs just those.
    """
    from corpus_builder.execute import Place, Terms, load_slurm_options, opener, run_plan
    from corpus_builder.plan import read_plan

    logs = run_dir.absolute() / "logs"
    options = None if slurm is None else load_slurm_options(slurm)
    opened = opener(scheduler, workers, options, logs)
    if dry_run:
        if options is None:
            raise InvalidInput(
                "--dry-run shows the job script of --scheduler slurm: give that, and --slurm OPTIONS.yaml"
            )
        click.echo(options.script(logs), nl=False)
        return
    place = Place(data_root, weights_root, device, engine, calibration)
    counts = run_plan(read_plan(plan_file), run_dir, place, opener=opened, terms=Terms(beat, stall_limit))
    done = ", ".join(f"{n} {status}" for status, n in sorted(counts.items())) or "nothing was left to do"
    click.echo(f"{run_dir}: {done}; next: corpus-builder seal {run_dir} --out CORPUS")


@cli.command()
@click.argument("run_dir", metavar="RUN", type=PathType)
def status(run_dir: Path) -> None:
    """Say how far a run is, by dataset and backbone, and what failed."""
    from corpus_builder.execute import RunDirectory
    from corpus_builder.execute.status import run_status

    counted = run_status(RunDirectory.open(run_dir))
    print_table(counted.rows)
    for line in [*counted.in_work, *counted.failures]:
        click.echo(line)


@cli.command()
@click.argument("run_dir", metavar="RUN", type=PathType)
@click.option("--out", type=PathType, required=True, help="Directory of the corpus to make.")
@click.option("--partial", is_flag=True, help="Seal an unfinished run: what is there.")
@click.option("--extends", metavar="CORPUS", type=PathType, help="A sealed corpus whose trials the new one also has.")
def seal(run_dir: Path, out: Path, partial: bool, extends: Path | None) -> None:
    """Seal a run into a corpus: tables, predictions, checksums.

    With --extends, a new release: all of that corpus, unchanged, and the trials of the run; what is new is printed and
    is in the manifest and the card.
    """
    from corpus_builder.release import news
    from corpus_builder.seal import seal as seal_run

    seal_run(run_dir, out, partial=partial, extends=extends)
    if extends is not None:
        for line in news(out):
            click.echo(line)
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
    print_table([{"column": name, "largest difference": f"{value:.3g}"} for name, value in differences.items()])
    worst = max(differences.values())
    click.echo(f"{trial_id}: {'the same curve, bit by bit' if worst == 0 else f'largest difference {worst:.3g}'}")


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


def main() -> None:
    """Entry point of the console script."""
    run_cli(cli)
