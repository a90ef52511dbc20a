"""Corpora that the tests of the reading side share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from factory import make_corpus

import metaquery as mq


@pytest.fixture(scope="session")
def corpus_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed corpus of three datasets, two of one family, with failures; not to be changed."""
    return make_corpus(tmp_path_factory.mktemp("corpora") / "factory", datasets=("alpha", "beta", "gamma"), folds=2)


@pytest.fixture
def corpus(corpus_path: Path) -> mq.Corpus:
    """The shared corpus, opened afresh."""
    return mq.open(corpus_path)


@pytest.fixture
def corpus_copy(corpus_path: Path, tmp_path: Path) -> Path:
    """A copy of the shared corpus to damage."""
    return Path(shutil.copytree(corpus_path, tmp_path / "copy"))


@pytest.fixture(scope="session")
def evaluation(corpus_path: Path) -> mq.Evaluation:
    """Random search and DEHB compared on the shared corpus with three seeds."""
    return mq.evaluate(mq.open(corpus_path), ["random", "dehb"], budget=mq.Budget(seconds=900), seeds=3, workers=2)
