"""The `metaquery` command. Each command imports what it needs when it runs, so that `--help` is instant."""

from __future__ import annotations

import click

from metaquery import __version__
from metaquery.cli.corpora import browse, diagnose, import_, info, pull, sql, verify
from metaquery.cli.models import recommend, surrogate
from metaquery.cli.studies import evaluate, meta_train, report, run
from metaquery.errors import run_cli


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="metaquery")
def cli() -> None:
    """Query a MedCurves corpus and benchmark optimizers on it.

    SOURCE is the name of a bundled corpus (mini, medcurves), the path of a sealed one, or
    hf://datasets/ORG/NAME[@REV] on the Hugging Face Hub; several, joined by commas, are opened as one.
    """


for command in (
    *(info, verify, sql, browse, diagnose, pull, import_),
    *(run, evaluate, report, meta_train, surrogate, recommend),
):
    cli.add_command(command)


def main() -> None:
    """Entry point of the console script."""
    run_cli(cli)
