"""Commands about what there is: datasets and backbones."""

from __future__ import annotations

from pathlib import Path

import click

from corpus_builder.cli.options import PathType, data_root_option, print_table, weights_root_option
from metaquery.errors import EXIT_BAD_INPUT


@click.group(invoke_without_command=True)
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


@click.group(invoke_without_command=True)
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
