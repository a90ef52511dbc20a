"""Commands about a run: run and status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from corpus_builder.cli.options import PathType, data_root_option, print_table, weights_root_option
from metaquery.errors import InvalidInput

if TYPE_CHECKING:
    from corpus_builder.execute.engine import Engine


@click.command()
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


@click.command()
@click.argument("run_dir", metavar="RUN", type=PathType)
def status(run_dir: Path) -> None:
    """Say how far a run is, by dataset and backbone, and what failed."""
    from corpus_builder.execute import RunDirectory
    from corpus_builder.execute.status import run_status

    counted = run_status(RunDirectory.open(run_dir))
    print_table(counted.rows)
    for line in [*counted.in_work, *counted.failures]:
        click.echo(line)
