"""The `corpus-builder` command. Each command imports what it needs when it runs, so that `--help` is instant."""

from __future__ import annotations

import click

from corpus_builder import __version__
from corpus_builder.cli.catalogue import backbones, datasets
from corpus_builder.cli.corpora import publish, replay, seal
from corpus_builder.cli.planning import calibrate, plan
from corpus_builder.cli.runs import run, status
from metaquery.errors import run_cli


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="corpus-builder")
def cli() -> None:
    """Fine-tune backbones on medical image datasets and seal the learning curves into a corpus."""


for command in (datasets, backbones, plan, calibrate, run, status, seal, replay, publish):
    cli.add_command(command)


def main() -> None:
    """Entry point of the console script."""
    run_cli(cli)
