"""Commands about corpora: info, verify, sql, pull, import, browse and diagnose."""

from __future__ import annotations

from pathlib import Path

import click

from metaquery.cli.options import names
from metaquery.errors import InvalidInput
from metaquery.result import FORMATS


@click.command()
@click.argument("source")
def info(source: str) -> None:
    """Say what a corpus holds: datasets, backbones, trials by status, hours, devices."""
    from metaquery.corpus import open as open_corpus

    click.echo(open_corpus(source).describe())


@click.command()
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


@click.command()
@click.argument("source")
@click.argument("query", required=False)
@click.option("--named", metavar="NAME", help="Run a named query instead of QUERY.")
@click.option("--list", "listed", is_flag=True, help="Say which named queries there are, and their SQL with --named.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write; needed for parquet.")
def sql(source: str, query: str | None, named: str | None, listed: bool, form: str, out: Path | None) -> None:
    """Run a read-only SQL query (DuckDB) over the tables of a corpus and the views made from them.

    The views are best_epoch, final, learning_curves, failures and cost_per_trial.
    """
    from metaquery.corpus import open as open_corpus
    from metaquery.queries import named_queries, named_query

    corpus = open_corpus(source)
    if listed:
        shown = named_queries().values() if named is None else [named_query(named)]
        for item in shown:
            click.echo(f"{item.name}: {item.question}" + ("" if named is None else f"\n{item.sql}"))
        return
    queries = [text for text in (query, named and named_query(named).sql) if text is not None]
    if len(queries) != 1:
        raise InvalidInput("expected one of a query and --named NAME; metaquery sql SOURCE --list  says the names")
    text = corpus.sql(queries[0]).write(form, out)
    if text is not None:
        click.echo(text)


@click.command()
@click.argument("source", metavar="hf://datasets/ORG/NAME[@REV]")
@click.option("--tables", metavar="A,B", help="Tables to pull, each whole, with all datasets; by default all.")
@click.option(
    "--datasets", metavar="A,B", help="Datasets whose predictions to pull; by default all, or with --tables none."
)
def pull(source: str, tables: str | None, datasets: str | None) -> None:
    """Bring a corpus from the Hugging Face Hub into the cache, whole or in part; it then opens without a network.

    Only predictions can be had of some datasets alone: a table always has the rows of all.
    """
    from metaquery.hub import pull as pull_corpus

    root = pull_corpus(source, names(tables), names(datasets), click.echo)
    click.echo(f"{source}: commit {root.name} in {root}")


@click.command("import")
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


@click.command()
@click.argument("source")
@click.option("--port", type=int, default=8642, show_default=True, help="Port of the page; 0 for any that is free.")
def browse(source: str, port: int) -> None:
    """Serve a page, on this machine only, of datasets, backbones and learning curves, with the SQL of each view."""
    from metaquery.browse import serve

    serve(source, port, click.echo)


@click.command()
@click.argument("source")
@click.option("--metric", help="Metric to judge by; by default AUC, or what an imported corpus has.")
@click.option("--out", type=click.Path(path_type=Path), help="Directory to write tables and a page with figures to.")
def diagnose(source: str, metric: str | None, out: Path | None) -> None:
    """Say what a corpus is like as a benchmark: early epochs, noise, importance, gaps, costs, failures."""
    from metaquery.corpus import open as open_corpus
    from metaquery.diagnostics import Diagnosis
    from metaquery.diagnostics import diagnose as diagnose_corpus

    if out is not None:
        Diagnosis.check_output(out)
    diagnosis = diagnose_corpus(open_corpus(source), metric)
    click.echo(diagnosis)
    if out is not None:
        click.echo(diagnosis.write(out))
