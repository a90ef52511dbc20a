"""Dense arrays and the summary: equal to the tables, and never trusted when their source or their files changed."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from factory import make_content, make_corpus, without_epochs

import metaquery as mq
from metaquery import cache, dense
from metaquery.dense_summary import best_values
from metaquery.errors import CorpusError, UnknownName
from metaquery.metrics import METRICS, metric
from metaquery.schema.writer import write_corpus


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of each test's own."""
    monkeypatch.setenv("MEDCURVES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def check(corpus: mq.Corpus, column: str) -> None:
    """The dense column against a plain loop over the tables."""
    trials, curves = corpus.table("trials"), corpus.table("curves")
    rows = {trial_id: row for row, trial_id in enumerate(trials["trial_id"].to_pylist())}
    expected = np.full((len(rows), corpus.epochs), np.nan, np.float32)
    own: dict[str, list[float]] = {trial_id: [] for trial_id in rows}
    for row in curves.select(["trial_id", "epoch", column]).to_pylist():
        value = math.nan if row[column] is None else row[column]
        expected[rows[row["trial_id"]], row["epoch"] - 1] = value
        own[row["trial_id"]].append(value)
    found = corpus.dense(column)
    assert found.tobytes() == expected.tobytes() or np.array_equal(found, expected, equal_nan=True)
    assert not found.flags.writeable
    for trial_id, values in own.items():
        assert np.array_equal(corpus.curve(trial_id, column), np.array(values, np.float32), equal_nan=True)


@pytest.mark.parametrize("column", ["val_auc", "test_loss", "learning_rate", "eval_seconds"])
def test_arrays_are_the_tables(corpus: mq.Corpus, column: str) -> None:
    check(corpus, column)
    check(mq.open(corpus.root), column)  # from the cache


def test_slabs_and_batches_of_any_size(corpus: mq.Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "_SLAB", 7)
    check(corpus, "val_auc")


def test_trials_without_epochs(tmp_path: Path) -> None:
    content = without_epochs(make_content(datasets=("alpha",), epochs=5), "tiny.scratch")
    made = {"name": "x", "version": "1", "builder_version": "0", "devices": [], "provenance": {}}
    corpus = mq.open(write_corpus(tmp_path / "x", **made, **content))
    check(corpus, "val_auc")
    check(corpus, "learning_rate")
    assert (corpus.spans()[:, 0] == 4).any()


def test_unknown_names(corpus: mq.Corpus) -> None:
    with pytest.raises(UnknownName, match="unknown curve column 'val_acu': did you mean val_auc"):
        corpus.dense("val_acu")
    trial_id = corpus.table("trials", ["trial_id"])["trial_id"][0].as_py()
    corpus.curve(trial_id, "val_auc")  # now all arrays are there, but these are no columns
    for name in ("epoch", "spans", "ids", "rows"):
        for ask in (corpus.dense, lambda name: corpus.curve(trial_id, name)):
            with pytest.raises(UnknownName, match=f"unknown curve column '{name}'"):
                ask(name)
    for name in ("nobody", "", "ünbekannt", "ffffffffffffffffffff"):
        with pytest.raises(UnknownName, match="expected a trial_id of the table trials"):
            corpus.curve(name, "val_auc")


def files(store: Path) -> list[Path]:
    return sorted(store.rglob("*.npy"))


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove", "digest"])
def test_damaged_files_are_made_again(corpus: mq.Corpus, store: Path, damage: str) -> None:
    whole = corpus.dense("val_auc").copy()
    for path in files(store):
        content = bytearray(path.read_bytes())
        if damage == "flip":
            content[-3] ^= 0xFF
            path.write_bytes(content)
        elif damage == "digest":
            path.with_name(f"{path.name}.sha256").write_text("0" * 64)
        elif damage == "remove":
            path.unlink()
        else:
            path.write_bytes(content[: len(content) // 2 if damage == "cut" else 0])
    again = mq.open(corpus.root)
    assert np.array_equal(again.dense("val_auc"), whole, equal_nan=True)
    check(again, "val_auc")


def test_a_flip_with_the_old_times_is_seen(corpus: mq.Corpus, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_SETTLED", -1.0)  # remember hashes at once
    whole = corpus.dense("val_auc").copy()
    assert list((store / "hashes").iterdir())
    for path in files(store):
        times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        content = bytearray(path.read_bytes())
        content[-3] ^= 0xFF
        path.write_bytes(content)
        os.utime(path, ns=times)
    assert np.array_equal(mq.open(corpus.root).dense("val_auc"), whole, equal_nan=True)


def test_remembered_hashes_spare_the_reading(corpus: mq.Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_SETTLED", -1.0)
    check(corpus, "val_auc")
    check(mq.open(corpus.root), "val_auc")
    read: list[object] = []
    monkeypatch.setattr(cache.hashlib, "file_digest", lambda *given: read.append(given))
    check(mq.open(corpus.root), "val_auc")
    assert read == []


def test_a_changed_source_is_read_again(corpus_copy: Path) -> None:
    before = mq.open(corpus_copy).dense("val_auc").copy()
    path = corpus_copy / "curves.parquet"
    data = pq.read_table(path)
    column = data.schema.get_field_index("val_auc")
    changed = pa.array(np.asarray(data["val_auc"]) / 2, pa.float32())
    pq.write_table(data.set_column(column, data.schema.field(column), changed), path)
    corpus = mq.open(corpus_copy)
    assert np.array_equal(corpus.dense("val_auc"), before / 2, equal_nan=True)
    check(corpus, "val_auc")


@pytest.mark.parametrize("place", ["a file", "read-only", "nowhere"])
def test_without_a_place_it_is_made_in_memory(
    corpus: mq.Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if place == "nowhere":
        monkeypatch.delenv("MEDCURVES_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    elif place == "a file":
        (tmp_path / "cache").write_text("not a directory")
    else:
        monkeypatch.setattr(cache.tempfile, "mkstemp", lambda **_: (_ for _ in ()).throw(PermissionError("read-only")))
    check(corpus, "val_auc")
    assert corpus.summary().num_rows == len(corpus.table("trials"))
    assert files(tmp_path) == []


def test_a_full_disk_leaves_nothing_half_written(
    corpus: mq.Corpus, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    check(corpus, "val_auc")
    assert [path for path in store.rglob("*") if path.is_file()] == []


def test_two_processes_at_once(corpus_path: Path, store: Path) -> None:
    code = f"import metaquery as mq; print(hash(mq.open({str(corpus_path)!r}).dense('val_auc').tobytes()))"
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    line = [sys.executable, "-c", code]
    running = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    assert len({process.communicate()[0] for process in running}) == 1
    assert [process.returncode for process in running] == [0, 0, 0]
    assert not list(store.rglob(".*"))
    check(mq.open(corpus_path), "val_auc")


def reordered(data: pa.Table) -> pa.Table:
    return data.take(list(reversed(range(len(data)))))


@pytest.mark.parametrize("change", [reordered, lambda data: data.slice(1), lambda data: data.slice(0, len(data) - 1)])
def test_curves_out_of_order_are_refused(
    corpus_copy: Path, store: Path, change: Callable[[pa.Table], pa.Table]
) -> None:
    path = corpus_copy / "curves.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(CorpusError, match="are not in the order of its trials"):
        mq.open(corpus_copy).dense("val_auc")
    assert files(store) == []


# The summary ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["auc", "loss"])
def test_summary_is_that_of_sql(corpus: mq.Corpus, name: str) -> None:
    order = "desc" if METRICS[name].direction == "maximize" else "asc"
    expected = corpus.sql(
        f"""with spent as (
                select *, sum(train_seconds::double + coalesce(eval_seconds, 0)::double)
                    over (partition by trial_id order by epoch) as seconds from curves),
            ranked as (
                select *,
                    row_number() over (partition by trial_id order by val_{name} {order} nulls last, epoch) as place,
                    row_number() over (partition by trial_id order by epoch desc) as back from spent)
            select t.trial_id, b.epoch, b.val_{name}, b.test_{name}, b.seconds, l.epoch, l.val_{name}, l.test_{name},
                l.seconds
            from trials t left join (from ranked where place = 1) b using (trial_id)
            left join (from ranked where back = 1) l using (trial_id)"""
    ).rows()
    columns = [
        "trial_id",
        *(f"{which}_{part}" for which in ("best", "last") for part in ("epoch", "val", "test", "seconds")),
    ]
    for summary in (corpus.summary(name), mq.open(corpus.root).summary(name)):
        assert summary["trial_id"].to_pylist() == corpus.table("trials")["trial_id"].to_pylist()
        found = {row["trial_id"]: [row[column] for column in columns] for row in summary.to_pylist()}
        for row in expected:
            for value, wanted in zip(found[row[0]], row, strict=True):
                assert value == (pytest.approx(wanted, rel=1e-12) if isinstance(wanted, float) else wanted)
        assert any(row["best_epoch"] is None for row in summary.to_pylist())  # out of memory before its first epoch


def test_best_values() -> None:
    values = np.array([[0.1, np.nan, 0.3], [np.nan, np.nan, np.nan], [0.5, 0.2, np.nan]], np.float32)
    assert np.array_equal(best_values(values, metric("auc")), np.float32([0.3, np.nan, 0.5]), equal_nan=True)
    assert np.array_equal(best_values(values, metric("loss")), np.float32([0.1, np.nan, 0.2]), equal_nan=True)
    assert len(best_values(values[:0], metric("auc"))) == 0


def test_unions(tmp_path: Path, corpus_path: Path) -> None:
    other = make_corpus(tmp_path / "other", datasets=("delta",), name="other", sobol=0, repeats=0)
    same = Path(shutil.copytree(corpus_path, tmp_path / "same"))
    manifest = (same / "corpus.json").read_text().replace('"version": "1.0"', '"version": "1.1"')
    (same / "corpus.json").write_text(manifest)
    union = mq.open([corpus_path, same, other])
    check(union, "val_auc")
    summary = union.summary()
    assert summary["trial_id"].to_pylist() == union.table("trials")["trial_id"].to_pylist()
    assert len(union.spans()) == len(summary)
