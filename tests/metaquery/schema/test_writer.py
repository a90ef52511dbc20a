"""Sealing: atomic, reproducible, and only what keeps its word."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from factory import make_content

import metaquery as mq
from metaquery.errors import InvalidData, InvalidInput
from metaquery.schema.predictions import TrialPredictions
from metaquery.schema.writer import write_corpus
from metaquery.verify import verify

Content = dict[str, Any]


@pytest.fixture(scope="module")
def content() -> Content:
    return make_content(datasets=("alpha",), sobol=1, repeats=1, epochs=9)


def seal(out: Path, content: Content, **changes: Any) -> Path:
    arguments = {
        "name": "small",
        "version": "1.0",
        "builder_version": "0.0.0",
        "devices": ["cpu"],
        "provenance": {},
        **content,
        **changes,
    }
    return write_corpus(out, **arguments)


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_manifest_tells_the_truth(tmp_path: Path, content: Content) -> None:
    root = seal(tmp_path / "out", content)
    manifest = json.loads((root / "corpus.json").read_text())
    listed = {entry["path"]: entry for entry in manifest["files"]}
    found = digest(root)
    assert found.pop("corpus.json")
    assert {path: entry["sha256"] for path, entry in listed.items()} == found
    assert all((root / path).stat().st_size == entry["bytes"] for path, entry in listed.items())
    assert listed["curves.parquet"]["rows"] == pq.read_metadata(root / "curves.parquet").num_rows
    assert listed["predictions/alpha.zarr.zip"]["rows"] == len(content["predictions"])
    assert listed["space.json"]["rows"] is None
    assert list(tmp_path.iterdir()) == [root]
    assert verify(root) == []


def test_same_content_same_bytes_in_any_order(tmp_path: Path, content: Content) -> None:
    rng = np.random.default_rng(0)
    shuffled = {name: data.take(rng.permutation(len(data))) for name, data in content["tables"].items()}
    first = seal(tmp_path / "first", content)
    second = seal(tmp_path / "second", content, tables=shuffled, predictions=content["predictions"][::-1])
    assert digest(first) == digest(second)
    with zipfile.ZipFile(first / "predictions" / "alpha.zarr.zip") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_trials_and_curves_have_one_order(tmp_path: Path, content: Content) -> None:
    corpus = mq.open(seal(tmp_path / "out", content))
    trials = corpus.table("trials")
    keys = list(zip(*(trials[name].to_pylist() for name in ("dataset", "fold", "config_id", "seed")), strict=True))
    assert keys == sorted(keys)
    expected = [(row["trial_id"], epoch) for row in trials.to_pylist() for epoch in range(1, row["epochs_run"] + 1)]
    curves = corpus.table("curves")
    assert list(zip(curves["trial_id"].to_pylist(), curves["epoch"].to_pylist(), strict=True)) == expected


def test_parquet_is_encoded_as_measured(corpus_path: Path) -> None:
    metadata = pq.read_metadata(corpus_path / "curves.parquet")
    group = metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert metadata.num_row_groups == 1
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert "BYTE_STREAM_SPLIT" in columns["val_auc"].encodings
    assert "DELTA_BINARY_PACKED" in columns["epoch"].encodings
    assert "RLE_DICTIONARY" in columns["trial_id"].encodings
    assert "RLE_DICTIONARY" not in columns["val_auc"].encodings


def test_row_groups_hold_a_hundred_thousand_rows(tmp_path: Path) -> None:
    from metaquery.schema.parquet import write_parquet

    write_parquet(pa.table({"x": pa.array(range(250_001), pa.int64())}), tmp_path / "x.parquet")
    metadata = pq.read_metadata(tmp_path / "x.parquet")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [100_000, 100_000, 50_001]


def test_page_checksums_notice_a_flipped_bit(tmp_path: Path) -> None:
    from metaquery.schema.parquet import write_parquet

    path = tmp_path / "x.parquet"
    write_parquet(pa.table({"x": np.random.default_rng(0).random(1000)}), path)
    column = pq.read_metadata(path).row_group(0).column(0)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(OSError, match="checksum"):
        pq.ParquetFile(path, page_checksum_verification=True).read()


def test_without_predictions(tmp_path: Path, content: Content) -> None:
    root = seal(tmp_path / "out", content, predictions=None)
    corpus = mq.open(root)
    assert not (root / "predictions").exists()
    assert corpus.manifest["predictions"]["checkpoints"] == []
    assert verify(root) == []
    with pytest.raises(InvalidInput, match="stores no predictions of alpha"):
        corpus.predictions(content["predictions"][0].trial_id)


def test_card(tmp_path: Path, content: Content) -> None:
    root = seal(tmp_path / "out", content, card="# Ünïcode\n")
    assert (root / "README.md").read_text(encoding="utf-8") == "# Ünïcode\n"
    assert verify(root) == []
    (root / "README.md").write_text("changed")
    assert verify(root) != []


def test_sealing_again_is_harmless(tmp_path: Path, content: Content) -> None:
    out = seal(tmp_path / "out", content)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert seal(out, content) == out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    with pytest.raises(InvalidInput, match="already holds another corpus"):
        seal(out, content, version="1.1")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert list(tmp_path.iterdir()) == [out]


def test_another_directory_is_refused(tmp_path: Path, content: Content) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="is not a sealed corpus"):
        seal(out, content)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def without(row: int) -> Callable[[list[TrialPredictions]], list[TrialPredictions]]:
    return lambda predictions: predictions[:row] + predictions[row + 1 :]


def changed(**changes: Any) -> Callable[[list[TrialPredictions]], list[TrialPredictions]]:
    return lambda predictions: [dataclasses.replace(predictions[0], **changes), *predictions[1:]]


def reshaped(change: Callable[[Any], Any]) -> Callable[[list[TrialPredictions]], list[TrialPredictions]]:
    def apply(predictions: list[TrialPredictions]) -> list[TrialPredictions]:
        first = {k: {split: change(p) for split, p in both.items()} for k, both in predictions[0].probabilities.items()}
        return [dataclasses.replace(predictions[0], probabilities=first), *predictions[1:]]

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without(0), "ran, but its predictions are missing"),
        (lambda predictions: [*predictions, predictions[0]], "given twice"),
        (changed(trial_id="0" * 16), "no such trial"),
        (changed(dataset="omega"), "no trials of omega fold 0"),
        (changed(probabilities={}), r"expected checkpoints \[1, 3, 9, 'best', 'last'\], got \[\]"),
        (reshaped(lambda p: p[1:]), r"expected shape \(30, 2\), got \(29, 2\)"),
        (reshaped(lambda p: p * 2), "rows sum to 1"),
        (reshaped(lambda p: p * np.nan), "rows sum to 1"),
        (reshaped(lambda p: np.stack([p[:, 0] + 2, p[:, 1] - 2], axis=1)), "rows sum to 1"),
    ],
)
def test_wrong_predictions_are_refused(tmp_path: Path, content: Content, damage: Any, message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        seal(tmp_path / "out", content, predictions=damage(content["predictions"]))
    assert list(tmp_path.iterdir()) == []


def test_wrong_tables_are_refused(tmp_path: Path, content: Content) -> None:
    trials = content["tables"]["trials"]
    with pytest.raises(InvalidData, match="trials: duplicate trial_id"):
        seal(tmp_path / "out", content, tables={**content["tables"], "trials": pa.concat_tables([trials, trials])})
    with pytest.raises(InvalidData, match="curves: the table is missing"):
        seal(tmp_path / "out", content, tables={n: t for n, t in content["tables"].items() if n != "curves"})
    assert list(tmp_path.iterdir()) == []


def test_wrong_manifest_is_refused(tmp_path: Path, content: Content) -> None:
    with pytest.raises(InvalidInput, match="version"):
        seal(tmp_path / "out", content, version="latest")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_when_the_last_step_fails(
    tmp_path: Path, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: object, target: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="disk full"):
        seal(tmp_path / "out", content)
    assert list(tmp_path.iterdir()) == []


def test_splits_without_a_part_are_refused(tmp_path: Path, content: Content) -> None:
    splits = content["tables"]["splits"]
    kept = splits.filter(pa.array([role != "test" for role in splits["role"].to_pylist()]))
    with pytest.raises(InvalidData, match="splits has no test samples"):
        seal(tmp_path / "out", content, tables={**content["tables"], "splits": kept})


def test_few_files_whatever_the_number_of_trials(corpus_path: Path) -> None:
    assert len(list(corpus_path.rglob("*.*"))) == 2 + 7 + 3  # documents, tables, one prediction file per dataset
