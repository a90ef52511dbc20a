"""The resolution of stored curves: near enough, the same when rounded again, and the best epoch stays the best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from factory import make_content, make_corpus
from hypothesis import given
from hypothesis import strategies as st

import metaquery as mq
from metaquery.bench.made import write_tables
from metaquery.metrics import METRICS
from metaquery.schema import table
from metaquery.schema.predictions import SPLITS, checkpoint_epochs
from metaquery.schema.rounding import RESOLUTION, off_resolution, rounded_curves
from metaquery.schema.writer import file_entry, write_corpus
from metaquery.verify import verify

SCHEMA = table("curves").arrow_schema()
FLOATS = [field.name for field in SCHEMA if field.type == pa.float32()]
SHARES = [f"{split}_{name}" for split in SPLITS for name in METRICS if name != "loss"]
LOSSES = [name for name in FLOATS if name.endswith("loss")]
SECONDS = [name for name in FLOATS if name.endswith("seconds")]


def curves_of(*trials: dict[str, list[float | None]]) -> pa.Table:
    """A table of curves, one for each of `trials`, that are 0.5 in the columns that a trial does not give."""
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for number, trial in enumerate(trials):
        length = len(next(iter(trial.values())))
        columns["trial_id"] += [f"{number:016x}"] * length
        columns["epoch"] += range(1, length + 1)
        for name in FLOATS:
            columns[name] += trial.get(name, [0.5] * length)
    return pa.table({name: pa.array(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names})


def rounded(name: str, *values: float | None) -> list[float | None]:
    found: list[float | None] = rounded_curves(curves_of({name: list(values)}))[name].to_pylist()
    return found


def test_by_hand() -> None:
    assert rounded("val_accuracy", 0.7, 0.0, 1.0, None) == [2867 / 4096, 0.0, 1.0, None]  # 0.7 x 4096 is 2867.2
    assert rounded("test_auc", 0.9, 0.90001) == [3686 / 4096, 3686 / 4096]
    assert rounded("train_loss", 1.0003, 1.0007, 0.3, 0.0) == [1.0, 1 + 2**-10, 1229 / 4096, 0.0]
    assert rounded("val_loss", None, 2.0, 16.118) == [None, 2.0, 16.125]  # between 16 and 32 in steps of 1/64
    assert rounded("eval_seconds", 100.3, 1e-3, 3600.0) == [100.25, 2**-10 * (1 + 6 / 256), 3600.0]
    assert rounded("learning_rate", 1e-3, 3.3e-4) == [float(np.float32(1e-3)), float(np.float32(3.3e-4))]


def test_the_best_validation_auc_stays_alone() -> None:
    """0.9 and 0.90001 are both nearest to 14746/16384, and only one of them is the best."""
    assert rounded("val_auc", 0.9, 0.90001, 0.9, 0.90001) == [k / 16384 for k in (14745, 14746, 14745, 14746)]
    assert rounded("val_auc", 0.9, 0.9, 0.5) == [14746 / 16384, 14746 / 16384, 0.5]
    assert rounded("val_auc", 0.0, 1e-9) == [0.0, 1 / 16384]  # there is nothing below 0
    assert rounded("val_auc", None, 0.0, None) == [None, 0.0, None]
    alone = rounded_curves(curves_of({"val_auc": [0.9, 0.8]}, {"val_auc": [0.90001]}))
    assert alone["val_auc"].to_pylist() == [14746 / 16384, 13107 / 16384, 14746 / 16384]


def test_what_is_not_finite_stays() -> None:
    found = rounded("train_loss", float("inf"), float("-inf"), float("nan"), float(np.finfo(np.float32).max))
    assert found[:2] == [float("inf"), float("-inf")]
    assert np.isnan(found[2])
    assert found[3] == float(np.finfo(np.float32).max)
    assert rounded("val_f1", 3e38) == [float("inf")]  # no metric, but no warning either
    assert rounded_curves(SCHEMA.empty_table()).equals(SCHEMA.empty_table())


def optional(low: float, high: float) -> st.SearchStrategy[float | None]:
    close = st.integers(0, 40).map(lambda k: low + (high - low) * (0.6 + k * 2e-6))  # many that are nearly equal
    return st.none() | close | st.floats(low, high, width=32)


@st.composite
def curves(draw: st.DrawFn) -> pa.Table:
    trials = []
    for length in draw(st.lists(st.integers(1, 8), min_size=1, max_size=3)):
        columns = {name: optional(0.0, 1.0) for name in SHARES} | {name: optional(0.0, 1e6) for name in LOSSES}
        columns |= {name: optional(2.0**-20, 1e5) for name in SECONDS}
        names = draw(st.lists(st.sampled_from(list(columns)), min_size=1, max_size=3, unique=True))
        trials.append(
            {name: draw(st.lists(columns[name], min_size=length, max_size=length)) for name in (*names, "val_auc")}
        )
    return curves_of(*trials)


@given(curves())
def test_rounding_is_near_and_final_and_keeps_order_and_best(data: pa.Table) -> None:
    found = rounded_curves(data)
    assert found.schema.equals(data.schema)
    assert rounded_curves(found).equals(found)
    assert list(off_resolution(found)) == []
    absolute, relative = RESOLUTION["max_error"], RESOLUTION["max_relative_error"]
    for name in FLOATS:
        assert found[name].is_null().equals(data[name].is_null())
        exact, stored = (rows[name].drop_null().to_numpy().astype(np.float64) for rows in (data, found))
        share = relative["loss"] if name in LOSSES else relative["seconds"] if name in SECONDS else 0.0
        bound = absolute[name.split("_", 1)[1]] if name in SHARES else 0.0
        assert (np.abs(stored - exact) <= bound + share * exact).all()
    for trial_id in set(data["trial_id"].to_pylist()):
        before, after = (
            rows.filter(pa.compute.equal(rows["trial_id"], trial_id))["val_auc"].to_pylist() for rows in (data, found)
        )
        assert checkpoint_epochs(after) == checkpoint_epochs(before)
        pairs = sorted((one, other) for one, other in zip(before, after, strict=True) if one is not None)
        assert [other for _, other in pairs] == sorted(other for _, other in pairs)


def test_a_row_takes_at_most_25_bytes(tmp_path: Path) -> None:
    """Of a million rows 23.9, of 100,000 a little more for what a file has once."""
    _, path, _ = write_tables(tmp_path, 100_000)
    assert path.stat().st_size / pq.read_metadata(path).num_rows < 25
    assert list(off_resolution(pq.read_table(path))) == []


def forge(root: Path, **changes: Any) -> None:
    manifest = json.loads((root / "corpus.json").read_text())
    manifest["files"] = [file_entry(root, entry["path"], entry["rows"]) for entry in manifest["files"]]
    (root / "corpus.json").write_text(json.dumps({**manifest, **changes}))


def test_verify_refuses_what_is_finer_than_stated(tmp_path: Path) -> None:
    root = make_corpus(tmp_path / "corpus", datasets=("alpha",), sobol=0, repeats=0, epochs=3)
    data = pq.read_table(root / "curves.parquet")
    finer = np.array(data["val_f1"].to_pylist(), np.float32)
    finer[4] += np.float32(2**-13)
    position = data.schema.get_field_index("val_f1")
    field = data.schema.field(position)
    pq.write_table(data.set_column(position, field, pa.array(finer)), root / "curves.parquet")
    forge(root)
    where = f"{data['trial_id'][4]}/{data['epoch'][4]}"
    assert f"curves: val_f1 is not at the resolution that corpus.json states in {where}" in verify(root)
    pq.write_table(data, root / "curves.parquet")
    forge(root)
    assert verify(root) == []
    forge(root, curves={**RESOLUTION, "max_relative_error": {"loss": 0.1, "seconds": 0.1}})
    (problem,) = verify(root)
    assert problem.startswith("corpus.json: curves are said to be at the resolution")


def test_an_imported_corpus_keeps_its_numbers(tmp_path: Path) -> None:
    content = {**make_content(datasets=("alpha",), sobol=0, repeats=0, epochs=3), "predictions": None}
    about = {"name": "theirs", "version": "1", "builder_version": "0", "devices": [], "provenance": {}}
    theirs = mq.open(write_corpus(tmp_path / "a", **content, **about, imported={"format": "table", "notes": []}))
    order = [("trial_id", "ascending"), ("epoch", "ascending")]
    given_curves = content["tables"]["curves"].sort_by(order)
    assert theirs.table("curves").sort_by(order).to_pylist() == given_curves.to_pylist()
    assert {name for name, _ in off_resolution(given_curves)} > {"val_loss", "val_auc", "train_seconds"}
    assert verify(theirs.root) == []
    assert "curves       in single precision" in theirs.describe()
    ours = mq.open(write_corpus(tmp_path / "b", **content, **about))
    assert ours.table("curves").sort_by(order).to_pylist() == rounded_curves(given_curves).to_pylist()
    assert "curves       metrics within 0.00012, losses within 0.00049 and seconds within 0.002" in ours.describe()
