"""What the tests of all importers share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import metaquery as mq
from metaquery.cli import cli
from metaquery.importers import import_corpus
from metaquery.verify import verify


@pytest.fixture
def imported(tmp_path: Path) -> Callable[[str, Path], mq.Corpus]:
    """Import files of a format; the corpus, which is sound."""

    def make(form: str, path: Path) -> mq.Corpus:
        notes = import_corpus(form, path, tmp_path / "corpus")
        corpus = mq.open(tmp_path / "corpus")
        assert verify(tmp_path / "corpus") == []
        assert corpus.manifest["imported"] == {"format": form, "notes": list(notes)}
        return corpus

    return make


@pytest.fixture
def every_command(tmp_path: Path) -> Callable[[mq.Corpus, str], None]:
    """Run every command that reads a corpus on it, in this process, and say which fails."""

    def check(corpus: mq.Corpus, dataset: str) -> None:
        source, out = corpus.root, tmp_path / "out"
        budget = ("--epochs", "30", "--metric", corpus.default_metric)
        for arguments in (
            ("info", source),
            ("verify", source),
            ("sql", source, "select count(*) from curves join trials using (trial_id) join configs using (config_id)"),
            ("run", source, "--optimizer", "random", "--dataset", dataset, *budget, "--out", out / "run"),
            ("run", source, "--optimizer", "dehb", "--dataset", dataset, *budget, "--snap", "nearest"),
            ("evaluate", source, "--optimizers", "random,dehb", "--seeds", "2", *budget, "--out", out / "evaluation"),
            ("report", out / "evaluation"),
        ):
            done = CliRunner().invoke(cli, list(map(str, arguments)))
            assert done.exit_code == 0, (arguments, done.output, done.exception)

    return check
