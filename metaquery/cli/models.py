"""Commands that predict: surrogate and recommend."""

from __future__ import annotations

from pathlib import Path

import click

from metaquery.cli.options import names
from metaquery.errors import InvalidInput
from metaquery.types import parse_duration


@click.group()
def surrogate() -> None:
    """Learn a corpus's curves, for  --kind surrogate, and measure how well."""


@surrogate.command("train")
@click.argument("source")
@click.option("--metric", help="Metric to predict; by default AUC, or what an imported corpus has.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File; by default beside the corpus.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the networks.")
def surrogate_train(source: str, metric: str | None, out: Path | None, seed: int) -> None:
    """Learn whole curves, costs and failures from all trials of a corpus; the last line is the file."""
    from metaquery.corpus import open as open_corpus
    from metaquery.surrogates.command import train_and_save

    click.echo(train_and_save(open_corpus(source), metric, out, seed))


@surrogate.command("evaluate")
@click.argument("source")
@click.option("--metrics", metavar="A,B", help="Metrics to predict; by default AUC, or what an imported corpus has.")
@click.option("--families", metavar="A,B", default="network", show_default=True, help="Families of models to compare.")
@click.option("--parts", type=int, default=5, show_default=True, help="Parts of the cross-validation over configs.")
@click.option("--optimizers", metavar="A,B", help="Optimizers to rank; by default six that need no extra.")
@click.option("--seeds", type=int, default=5, show_default=True, help="Seeds of each optimizer; 0 ranks none.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="JSON file for the numbers.")
def surrogate_evaluate(
    source: str,
    metrics: str | None,
    families: str,
    parts: int,
    optimizers: str | None,
    seeds: int,
    out: Path | None,
) -> None:
    """Measure a surrogate on configs it has not learned from, and whether optimizers rank on it as on the table."""
    from metaquery.corpus import open as open_corpus
    from metaquery.surrogates.command import evaluate_and_tell

    for text in evaluate_and_tell(
        open_corpus(source), names(metrics), names(families) or [], parts, names(optimizers), seeds, out
    ):
        click.echo(text)


@click.command()
@click.argument("source")
@click.option("--card", metavar="NAME|FILE", help="Data card of the dataset.")
@click.option(
    "--images", type=click.Path(path_type=Path), help="Folder with one folder of images per class, in place of a card."
)
@click.option(
    "--data-root", type=click.Path(path_type=Path), envvar="MEDCURVES_DATA", help="Where the card's files are."
)
@click.option("--weights-root", type=click.Path(path_type=Path), envvar="MEDCURVES_WEIGHTS", help="Pretrained weights.")
@click.option("--top", type=int, default=5, show_default=True, help="Configs to show.")
@click.option("--study", "studied", is_flag=True, help="Say instead whether recommendations help on held-out datasets.")
@click.option("--live", is_flag=True, help="Fine-tune on the dataset, starting from the recommended configs.")
@click.option("--budget", metavar="TIME", help="Real time of --live, such as 20m.")
@click.option("--optimizer", "name", default="asha", show_default=True, help="Optimizer of --live.")
@click.option("--device", default="cpu", show_default=True, help="Device of --live.")
@click.option("--out", type=click.Path(path_type=Path), help="Directory of --live's model, or CSV file of --study.")
def recommend(
    source: str,
    card: str | None,
    images: Path | None,
    data_root: Path | None,
    weights_root: Path | None,
    top: int,
    studied: bool,
    live: bool,
    budget: str | None,
    name: str,
    device: str,
    out: Path | None,
) -> None:
    """Say which backbone, fine-tuned how, suits a new dataset, what to expect of it, and how sure that is.

    The dataset is measured on its training part and compared with those of the corpus. Expected values are those of a
    held-out test part, at the epoch that is best on validation.
    """
    from metaquery.corpus import open as open_corpus
    from metaquery.optimizers import optimizer_class
    from metaquery.recommend import command
    from metaquery.recommend.live import check_model_output

    corpus = open_corpus(source)
    if studied:
        command.study(corpus, out, click.echo)
        return
    seconds = None if budget is None else parse_duration(budget)
    if live and (seconds is None or out is None):
        raise InvalidInput("--live needs  --budget TIME, such as 20m, and  --out DIR  for the model")
    if live and out is not None:
        optimizer_class(name).installed()
        check_model_output(out)
    data, found = command.advise(
        corpus,
        card=card,
        images=images,
        data_root=data_root,
        weights_root=weights_root,
        device=device,
        top=top,
        say=click.echo,
    )
    if live and seconds is not None and out is not None:
        command.tune(corpus, data, found, optimizer=name, seconds=seconds, out=out, say=click.echo)
