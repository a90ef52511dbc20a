"""Commands that come before a run: plan and calibrate."""

from __future__ import annotations

from pathlib import Path

import click

from corpus_builder.cli.options import PathType, data_root_option, print_table, weights_root_option


@click.command()
@click.argument("study", type=PathType)
@click.option("--out", type=PathType, required=True, help="Parquet file to write.")
@click.option(
    "--budget", metavar="TIME", help="Keep what tells the most within this time of one device, such as 90m, 10h or 2d."
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="How many times as fast as one core of a server's CPU the device is, where costs are not from a calibration.",
)
@click.option(
    "--longest",
    metavar="TIME",
    help="Leave out trials that will probably take longer than this; the cheapest of a dataset and backbone stays.",
)
@click.option("--calibration", type=PathType, help="Predict costs from measurements instead; see calibrate.")
def plan(
    study: Path,
    out: Path,
    budget: str | None,
    speed: float,
    longest: str | None,
    calibration: Path | None,
) -> None:
    """Turn a study (YAML) into the list of its trials, in units of work, with what they will probably cost.

    With a budget, first the default configuration of every dataset and backbone is kept, then configurations spread
    over the search space, as many for each as there is time for.
    """
    from corpus_builder.cost import calibrated_cost, nominal_cost
    from corpus_builder.execute.engine import load_calibration
    from corpus_builder.plan import make_plan, summary, write_plan
    from corpus_builder.study import load_study
    from metaquery.types import parse_duration

    loaded = load_study(study)
    total, each = (None if limit is None else parse_duration(limit) for limit in (budget, longest))
    known = None if calibration is None else load_calibration(calibration)
    cost = nominal_cost(loaded, speed) if known is None else calibrated_cost(loaded, known)
    made = make_plan(loaded, cost, total, each)
    write_plan(made, out)
    rows, lines = summary(made)
    print_table(rows)
    for line in (f"{out}: {lines[0]}", *lines[1:]):
        click.echo(line)
    click.echo(
        f"Hours are predicted for {speed:g} times the speed of one core of a server's CPU, without a calibration."
        if known is None
        else f"Hours are predicted from the calibration of {known.device}."
    )


@click.command()
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
