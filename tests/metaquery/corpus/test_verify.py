"""Verifying: a sound corpus has no problem, and no damage passes, also behind a rewritten manifest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from factory import make_corpus

import metaquery as mq
from metaquery.errors import CorpusError, InvalidInput, UnknownName
from metaquery.schema.parquet import write_parquet
from metaquery.schema.writer import file_entry
from metaquery.verify import verify

Row = dict[str, Any]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return make_corpus(tmp_path / "small", datasets=("alpha",), sobol=1, repeats=1, epochs=9)


def forge(root: Path) -> None:
    """Make the manifest true again after damage: checksums, sizes and row counts, for the files that are there."""
    manifest = json.loads((root / "corpus.json").read_text())
    rows = {entry["path"]: entry["rows"] for entry in manifest["files"]}
    for path in list(rows):
        if path.endswith(".parquet"):
            rows[path] = pq.read_metadata(root / path).num_rows
    manifest["files"] = [file_entry(root, path, count) for path, count in rows.items()]
    (root / "corpus.json").write_text(json.dumps(manifest))


def rewrite(root: Path, table: str, edit: Callable[[list[Row]], Any]) -> None:
    data = pq.read_table(root / f"{table}.parquet")
    rows = data.to_pylist()
    edit(rows)
    schema = pa.schema([field.with_nullable(True) for field in data.schema])
    write_parquet(pa.Table.from_pylist(rows, schema=schema), root / f"{table}.parquet")
    forge(root)


def test_sound(corpus_path: Path) -> None:
    assert verify(corpus_path) == []


def test_what_is_no_corpus_raises(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="corpus-builder seal"):
        verify(tmp_path)
    with pytest.raises(UnknownName):
        verify("nonsense")


def test_broken_manifest_is_one_problem(small: Path) -> None:
    (small / "corpus.json").write_text("{")
    assert len(verify(small)) == 1


def test_files(small: Path) -> None:
    (small / "notes.txt").write_text("x")
    (small / "predictions" / "omega.zarr.zip").write_bytes(b"x")
    (small / "space.json").write_bytes((small / "space.json").read_bytes() + b"\n")
    (small / "metafeatures.parquet").unlink()
    assert verify(small) == [
        "metafeatures.parquet: the file is missing",
        f"space.json: {(small / 'space.json').stat().st_size} bytes, corpus.json says "
        f"{(small / 'space.json').stat().st_size - 1}",
        "space.json: its SHA-256 is not the one in corpus.json, the content has changed",
        "notes.txt: the file is not in corpus.json",
        "predictions/omega.zarr.zip: the file is not in corpus.json",
        f"metafeatures.parquet: it cannot be read ({small}/metafeatures.parquet is missing: the corpus is incomplete, "
        "copy or download it again)",
        "metafeatures: the table is missing",
    ]


def test_a_surrogate_beside_the_corpus_is_of_it(corpus_copy: Path) -> None:
    (corpus_copy / "surrogate").mkdir()
    learned = (mq.open("medcurves").root / "surrogate" / "auc.npz").read_bytes()
    (corpus_copy / "surrogate" / "auc.npz").write_bytes(learned)
    (corpus_copy / "surrogate" / "loss.npz").write_bytes(learned[:1000])
    other, damaged = verify(corpus_copy)
    assert other.startswith("surrogate/auc.npz: ")
    assert "was learned from another corpus (medcurves 1.0" in other
    assert damaged.startswith("surrogate/loss.npz: ")
    assert "is not a surrogate" in damaged


def test_flipped_byte(small: Path) -> None:
    path = small / "curves.parquet"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(bytes(content))
    problems = verify(small)
    assert "curves.parquet: its SHA-256 is not the one in corpus.json, the content has changed" in problems
    assert any(problem.startswith("curves.parquet: it cannot be read") for problem in problems)


def test_row_count(small: Path) -> None:
    manifest = json.loads((small / "corpus.json").read_text())
    for entry in manifest["files"]:
        if entry["rows"] is not None:
            entry["rows"] += 1
    (small / "corpus.json").write_text(json.dumps(manifest))
    problems = verify(small)
    assert len(problems) == 8
    assert all("corpus.json says" in problem or "the manifest says" in problem for problem in problems)


def test_file_listed_twice(small: Path) -> None:
    manifest = json.loads((small / "corpus.json").read_text())
    manifest["files"].append(manifest["files"][0])
    (small / "corpus.json").write_text(json.dumps(manifest))
    assert verify(small) == [f"{manifest['files'][0]['path']}: it is in corpus.json more than once"]


def test_link_out_of_the_corpus(small: Path, tmp_path: Path) -> None:
    (small / "splits.parquet").rename(tmp_path / "splits.parquet")
    (small / "splits.parquet").symlink_to(tmp_path / "splits.parquet")
    assert "splits.parquet: it leads out of the corpus" in verify(small)


# Behind a manifest that has been made true again ---------------------------------------------------------------------


def test_laws_of_tables_are_checked_whatever_the_checksums_say(small: Path) -> None:
    rewrite(small, "trials", lambda rows: rows[0].update(seed=7, status="lost"))
    assert any(problem.startswith("trials: status is 'lost'") for problem in verify(small))


def test_order(small: Path) -> None:
    rewrite(small, "curves", lambda rows: rows.insert(0, rows.pop(1)))
    assert verify(small)[0] == "curves: row 1 is not in the order of trials and epochs"
    rewrite(small, "trials", lambda rows: rows.reverse())
    assert "trials: row 1 is not in the order of dataset, fold, config_id and seed" in verify(small)


def test_missing_prediction_file(small: Path) -> None:
    (small / "predictions" / "alpha.zarr.zip").unlink()
    manifest = json.loads((small / "corpus.json").read_text())
    manifest["files"] = [entry for entry in manifest["files"] if not entry["path"].startswith("predictions")]
    (small / "corpus.json").write_text(json.dumps(manifest))
    assert verify(small) == ["predictions/alpha.zarr.zip: the file is missing, trials of alpha have epochs"]


def test_predictions_of_another_corpus(small: Path, tmp_path: Path) -> None:
    other = make_corpus(tmp_path / "other", datasets=("alpha",), sobol=1, repeats=1, epochs=9, seed=1)
    (small / "predictions" / "alpha.zarr.zip").write_bytes((other / "predictions" / "alpha.zarr.zip").read_bytes())
    forge(small)
    problems = verify(small)
    ran = mq.open(small).sql("select count(*) from trials where epochs_run > 0").rows()[0][0]
    assert sum(problem.endswith("has predictions but no curve") for problem in problems) == ran
    assert sum(problem.endswith("has no predictions") for problem in problems) == ran


@pytest.mark.parametrize(
    ("metric", "change"),
    [("loss", 2**-6), ("auc", 2**-5), ("accuracy", 2**-5), ("f1", 2**-12), ("ece", 2**-2)],  # at the resolution
)
def test_metrics_that_disagree_with_predictions(small: Path, metric: str, change: float) -> None:
    trial_id = mq.open(small).table("trials")["trial_id"][0].as_py()

    def edit(rows: list[Row]) -> None:
        row = next(row for row in rows if row["trial_id"] == trial_id and row["epoch"] == 3)
        row[f"test_{metric}"] += -change if row[f"test_{metric}"] > 0.5 else change

    rewrite(small, "curves", edit)
    problems = verify(small)
    assert len(problems) == 1
    where = (
        f"predictions/alpha.zarr.zip: fold 0: trial {trial_id}: test predictions at 3 (epoch 3) contradict the curve"
    )
    assert problems[0].startswith(f"{where}: {metric} is ")


def test_undefined_metric_that_can_be_computed(small: Path) -> None:
    rewrite(small, "curves", lambda rows: rows[0].update(val_f1=None))
    assert "the curve says nan" in verify(small)[0]


def test_best_checkpoint_at_another_epoch(small: Path) -> None:
    def edit(rows: list[Row]) -> None:
        rows[1]["val_auc"] = 1.0  # epoch 2 of the first trial, which has no checkpoint of its own

    rewrite(small, "curves", edit)
    assert "its checkpoints are at [1, 3, 9, 0, " in verify(small)[0]


def test_samples_that_are_not_those_of_the_splits(small: Path) -> None:
    def edit(rows: list[Row]) -> None:
        row = next(row for row in rows if row["role"] == "val")
        row["label"] = 1 - row["label"]

    rewrite(small, "splits", edit)
    assert "predictions/alpha.zarr.zip: fold 0: the val samples or labels are not those of the table splits" in verify(
        small
    )


@pytest.mark.parametrize(("old", "new"), [(b"val_auc", b"\xff\xfe__auc"), (b"ARROW:schema", b"\xff\xfe\xfd__:schema")])
def test_names_that_are_not_text(small: Path, old: bytes, new: bytes) -> None:
    """pyarrow passes on, and polars panics at, what is not UTF-8."""
    path = small / "curves.parquet"
    path.write_bytes(path.read_bytes().replace(old, new))
    assert "curves.parquet: its SHA-256 is not the one in corpus.json, the content has changed" in verify(small)
    if old == b"val_auc":
        with pytest.raises(CorpusError, match=r"curves\.parquet cannot be read"):
            mq.open(small).table("curves")


def test_sql_over_damage_is_one_line(small: Path) -> None:
    (small / "curves.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InvalidInput, match=r"^SQL: [^\n]*curves\.parquet[^\n]*$"):
        mq.open(small).sql("select 1")


@pytest.mark.parametrize("forged", [False, True])
def test_any_damage_is_reported_and_none_crashes(small: Path, forged: bool) -> None:
    """Bytes flipped, zeroed and cut off anywhere, before and behind the checksums."""
    rng = np.random.default_rng(0)
    files = sorted(path for path in small.rglob("*.*") if path.name != "corpus.json")
    for path in files:
        whole = path.read_bytes()
        for kind in ("flip", "zero", "cut", "empty"):
            content = bytearray(whole)
            place = int(rng.integers(len(content)))
            if kind == "flip":
                content[place] ^= 1 << int(rng.integers(8))
            elif kind == "zero":
                content[place : place + 64] = bytes(len(content[place : place + 64]))
            else:
                del content[0 if kind == "empty" else place :]
            path.write_bytes(bytes(content))
            if not forged:
                assert verify(small) or content == whole, (path, kind, place)
            else:
                manifest = (small / "corpus.json").read_text()
                entries = json.loads(manifest)
                entries["files"] = [file_entry(small, entry["path"], entry["rows"]) for entry in entries["files"]]
                (small / "corpus.json").write_text(json.dumps(entries))
                verify(small)  # what a flip changes may mean the same; it must not raise
                (small / "corpus.json").write_text(manifest)
        path.write_bytes(whole)
    assert verify(small) == []
