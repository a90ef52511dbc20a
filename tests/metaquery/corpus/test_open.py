"""Opening a corpus: what is read, what is refused, and with which words."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import metaquery as mq
from metaquery import corpus as corpus_module
from metaquery.errors import CorpusError, UnknownName
from metaquery.space import SearchSpace


def test_manifest_is_all_that_opening_reads(corpus_copy: Path) -> None:
    for path in corpus_copy.rglob("*.*"):
        if path.name != "corpus.json":
            path.unlink()
    corpus = mq.open(str(corpus_copy))
    assert (corpus.name, corpus.version, corpus.epochs) == ("factory", "1.0", 27)
    assert corpus.hash == hashlib.sha256((corpus_copy / "corpus.json").read_bytes()).hexdigest()
    with pytest.raises(CorpusError, match=r"trials\.parquet is missing: the corpus is incomplete"):
        corpus.table("trials")


def test_contents(corpus: mq.Corpus) -> None:
    assert corpus.datasets == ("alpha", "beta", "gamma")
    assert isinstance(corpus.space, SearchSpace)
    assert len(corpus.space.grid()) == 54
    assert corpus.table("trials").num_rows == 3 * 2 * 33
    assert corpus.table("trials", ["seed", "status"]).column_names == ["seed", "status"]
    assert repr(corpus) == f"Corpus(factory 1.0, {corpus.root})"


def test_unknown_table_and_column(corpus: mq.Corpus) -> None:
    with pytest.raises(UnknownName, match="unknown table 'trial': did you mean trials"):
        corpus.table("trial")
    with pytest.raises(UnknownName, match="unknown column of trials 'sead': did you mean seed"):
        corpus.table("trials", ["sead"])


def test_bundled_names_come_first(corpus_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "_BUNDLED", corpus_copy.parent)
    assert mq.open("copy").root == corpus_copy
    with pytest.raises(UnknownName, match="unknown corpus 'copi': did you mean copy"):
        mq.open("copi")


def test_not_sealed(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"not a sealed corpus.*corpus-builder seal"):
        mq.open(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ("[]", "does not follow"), ("{}", "'name' is a required property"), ("\xff", "is not JSON")],
)
def test_broken_manifest(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "corpus.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(CorpusError, match=message):
        mq.open(tmp_path)


def test_newer_schema_is_refused(corpus_copy: Path) -> None:
    manifest = json.loads((corpus_copy / "corpus.json").read_text())
    (corpus_copy / "corpus.json").write_text(json.dumps({**manifest, "schema_version": 2}))
    with pytest.raises(CorpusError, match="schema_version"):
        mq.open(corpus_copy)


@pytest.mark.parametrize("path", ["../secret.parquet", "/etc/passwd", "predictions/../../x", "a//b", ".hidden", "a\\b"])
def test_paths_out_of_the_corpus_are_refused(corpus_copy: Path, path: str) -> None:
    manifest = json.loads((corpus_copy / "corpus.json").read_text())
    manifest["files"][0]["path"] = path
    (corpus_copy / "corpus.json").write_text(json.dumps(manifest))
    with pytest.raises(CorpusError, match=r"files\.0\.path"):
        mq.open(corpus_copy)


def test_links_out_of_the_corpus_are_refused(corpus_copy: Path, tmp_path: Path) -> None:
    (corpus_copy / "trials.parquet").rename(tmp_path / "elsewhere.parquet")
    (corpus_copy / "trials.parquet").symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(CorpusError, match="leads out of the corpus"):
        mq.open(corpus_copy).table("trials")


def test_damaged_table_and_space(corpus_copy: Path) -> None:
    content = (corpus_copy / "trials.parquet").read_bytes()
    (corpus_copy / "trials.parquet").write_bytes(content[: len(content) // 2])
    (corpus_copy / "space.json").write_text('{"name": 1}')
    corpus = mq.open(corpus_copy)
    with pytest.raises(CorpusError, match=r"trials\.parquet cannot be read"):
        corpus.table("trials")
    with pytest.raises(CorpusError, match=r"space\.json is not a search space"):
        _ = corpus.space


@pytest.mark.parametrize("dataset", ["alpha", "beta", "gamma"])
@pytest.mark.parametrize("fold", [0, 1])
def test_curves_of_a_fold_are_those_of_sql(corpus: mq.Corpus, dataset: str, fold: int) -> None:
    trials, curves = corpus.curves(dataset, fold, ["epoch", "val_auc"])
    expected = corpus.sql(
        f"""select trial_id, epoch, val_auc from curves join trials using (trial_id)
            where dataset = '{dataset}' and fold = {fold} order by dataset, fold, config_id, seed, epoch"""
    ).rows()
    ids = np.repeat(trials["trial_id"].to_numpy(), trials["epochs_run"].to_numpy()).tolist()
    assert list(zip(ids, curves["epoch"].to_pylist(), curves["val_auc"].to_pylist(), strict=True)) == expected


def test_curves_of_something_unknown(corpus: mq.Corpus) -> None:
    with pytest.raises(UnknownName, match="unknown dataset 'alhpa': did you mean alpha"):
        corpus.curves("alhpa", 0, ["epoch"])
    with pytest.raises(UnknownName, match="unknown fold of beta '2': expected one of: 0, 1"):
        corpus.curves("beta", 2, ["epoch"])


def test_description(corpus: mq.Corpus) -> None:
    text = corpus.describe()
    lines = text.splitlines()
    assert lines[0].startswith("factory 1.0")
    assert corpus.hash in text
    assert next(line.split() for line in lines if line.startswith("gamma"))[-2:] == ["66", "CC-BY-4.0"]
    assert next(line.split() for line in lines if line.startswith("timed_out"))[:3] == ["timed_out", "1", "12"]
    assert next(line.split() for line in lines if line.startswith("grid"))[1:] == ["54", str(3 * 2 * 29), "2"]
