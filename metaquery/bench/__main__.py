"""The command `python -m metaquery.bench`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from metaquery.bench.peer import PEERS
from metaquery.errors import InvalidInput, run_cli


@click.command()
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="NAME=PYTHON",
    help=f"The Python of an environment in which a peer is installed; names: {', '.join(PEERS)}.",
)
@click.option("--rows", default=10_000_000, show_default=True, type=click.IntRange(27), help="Curve rows to scan.")
@click.option("--source", default="mini", show_default=True, help="The corpus to open.")
def bench(peers: tuple[str, ...], rows: int, source: str) -> None:
    """Measure how fast metaquery is, beside its peers, and print one line per figure."""
    pythons = dict(_named(peer) for peer in peers)
    with tempfile.TemporaryDirectory(prefix="metaquery-bench-") as directory:
        os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy is imported: the time of each thread would count
        os.environ["MEDCURVES_CACHE"] = str(Path(directory) / "cache")  # to be measured and removed, not kept
        from metaquery.bench import figures

        click.echo("CPU time, least of several rounds; a ratio says how many times longer the other takes")
        place = Path(directory)
        for part in (
            figures.opening(source),
            figures.tables(place, pythons),
            figures.scans(place, rows),
            figures.predictions(source, place),
            figures.surrogates(source, pythons),
        ):
            for figure in part:
                others = [f"{name} {_beside(found, figure.ours)}" for name, found in figure.peers.items()]
                if figure.floor is not None:
                    others.append(f"plain {_beside(figure.floor, figure.ours)}")
                wanted = f"(wanted: {figure.target})"
                click.echo("; ".join([f"{figure.name}: {figure.ours:.3g} {figure.unit} {wanted}", *others]))


def _beside(found: float | None, ours: float) -> str:
    return "absent" if found is None else f"{found:.3g} ({found / ours:.3g} x)"


def _named(peer: str) -> tuple[str, Path]:
    name, _, python = peer.partition("=")
    if name not in PEERS or not python:
        raise InvalidInput(f"--peer must be NAME=PYTHON with a name of {', '.join(PEERS)}, got {peer!r}")
    return name, Path(python)


if __name__ == "__main__":
    run_cli(bench)
