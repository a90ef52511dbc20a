"""Commands that make corpora and go back to them: seal, replay and publish."""

from __future__ import annotations

from pathlib import Path

import click

from corpus_builder.cli.options import PathType, data_root_option, print_table, weights_root_option


@click.command()
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


@click.command()
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
    click.echo(f"{trial_id}: {'the same curve as the corpus has' if worst == 0 else f'largest difference {worst:.3g}'}")


@click.command()
@click.argument("corpus", type=PathType)
@click.argument("target", metavar="hf://datasets/ORG/NAME")
def publish(corpus: Path, target: str) -> None:
    """Upload a sealed corpus to the Hugging Face Hub, with its card, licences and citations, in one commit.

    The token is that of `hf auth login`, or HF_TOKEN.
    """
    from corpus_builder.publish import publish as publish_corpus

    commit = publish_corpus(corpus, target)
    click.echo(f"{target}: commit {commit}; get it with: metaquery pull {target}@{commit}")
