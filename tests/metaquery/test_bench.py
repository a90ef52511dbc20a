"""The speed command: small runs of every figure, and what a peer that is absent or broken gives."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from factory import make_corpus

from metaquery.bench import figures, peer
from metaquery.bench.made import make_table, tabular, write_tables
from metaquery.dense import Dense
from metaquery.errors import InvalidInput, UnknownName


def test_made_tables_answer_as_they_were_made() -> None:
    made = make_table(5)
    bench = tabular(made)
    found = bench.query(bench.configs[3], 7)
    assert found.value == float(made.values[3, 6, 0])
    assert found.cost_seconds == pytest.approx(float(made.values[3, 6, -1]), rel=1e-6)


def test_scans_of_a_small_corpus(tmp_path: Path) -> None:
    found = {figure.name: figure for figure in figures.scans(tmp_path, 2_000)}
    assert len(found) == 4
    assert all(figure.ours > 0 for figure in found.values())
    trials, curves, epochs = write_tables(tmp_path, 2_000)
    assert Dense(trials, curves, epochs).column("val_auc").shape == (75, 27)


def test_an_absent_peer_is_absent(tmp_path: Path) -> None:
    assert peer.ask("syne_tune", {}) is None


def test_a_peer_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be run"):
        peer.ask("syne_tune", {"syne_tune": tmp_path / "python"})
    with pytest.raises(InvalidInput, match=r"mf_prior_bench failed in .*: ModuleNotFoundError"):
        peer.ask("mf_prior_bench", {"mf_prior_bench": Path(sys.executable)}, tmp_path / "none.npz")


def test_queries_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_BATCH", 100)
    made = make_table(20)
    bench = tabular(made)
    ours, plain = figures._query(bench)
    assert ours > plain > 0
    assert np.isfinite(figures._batch(bench).ours)


def test_predictions_and_surrogates(corpus_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (read,) = figures.predictions(str(corpus_path), tmp_path)
    assert read.ours > 0
    assert read.floor is not None
    monkeypatch.setattr(figures, "_ASKED", 50)
    monkeypatch.setattr(figures, "_STEPS", 2)
    alone, again, batch = figures.surrogates(str(corpus_path), {})
    assert alone.ours > again.ours > 0
    assert alone.ours > batch.ours > 0


def test_several_corpora_are_measured_as_one(tmp_path: Path) -> None:
    paths = [make_corpus(tmp_path / name, datasets=(name,), name=name) for name in ("alpha", "beta")]
    (read,) = figures.predictions(",".join(map(str, paths)), tmp_path)
    assert "alpha+beta" in read.name


def test_a_corpus_that_cannot_be_opened_is_said_in_one_line() -> None:
    with pytest.raises(UnknownName, match="none"):
        next(figures.opening("none"))


def test_a_corpus_without_predictions_has_no_such_figure(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", datasets=("alpha",))
    manifest = json.loads((corpus / "corpus.json").read_text())
    manifest["files"] = [file for file in manifest["files"] if not file["path"].startswith("predictions")]
    (corpus / "corpus.json").write_text(json.dumps(manifest))
    assert list(figures.predictions(str(corpus), tmp_path)) == []
