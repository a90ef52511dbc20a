"""Sealing: what comes out of a run is a sound corpus that says exactly what the run did."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import assert_one_line_error
from phantom_study import grid_of, write_study

import metaquery as mq
from corpus_builder.card import corpus_card
from corpus_builder.execute import Place, RunDirectory
from corpus_builder.replay import replay
from corpus_builder.seal import seal
from metaquery.errors import InvalidInput
from metaquery.schema import TABLE_NAMES
from metaquery.schema.rounding import rounded_curves
from metaquery.verify import verify


@pytest.fixture(scope="module")
def run(tmp_path_factory, command):
    """A finished run of 9 trials: the grid and some of the sobol design, two trials to a unit."""
    root = tmp_path_factory.mktemp("sealing")
    grid = grid_of(["tiny_3d.scratch"], optimizer=["adamw", "sgd"], lr=[1e-4, 1e-3, 1e-2])
    study = write_study(
        root / "study.yaml", designs={"grid": grid, "sobol": 3}, trials_per_unit=2, notes=["Made in a test."]
    )
    for arguments in (
        ("plan", study, "--out", root / "plan.parquet"),
        ("run", root / "plan.parquet", "--run-dir", root / "run"),
    ):
        done = command("corpus-builder", *arguments)
        assert done.returncode == 0, done.stderr
    return root / "run"


@pytest.fixture(scope="module")
def corpus(run, tmp_path_factory):
    return mq.open(seal(run, tmp_path_factory.mktemp("sealed") / "corpus"))


def test_the_corpus_is_sound_and_sealing_again_gives_the_same_bytes(run, corpus, tmp_path):
    assert verify(corpus.root) == []
    again = seal(run, tmp_path / "corpus")
    for path in corpus.root.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(corpus.root)).read_bytes(), path.name
    assert seal(run, corpus.root) == corpus.root  # sealing to where it already is changes nothing


def test_every_trial_curve_and_prediction_of_the_run_is_in_it(run, corpus):
    opened = RunDirectory.open(run)
    for unit in opened.plan.units:
        for row in opened.read_shard(unit).to_pylist():
            trial_id = row["trial_id"]
            (stored,) = corpus.sql(f"select * from trials where trial_id = '{trial_id}'").arrow().to_pylist()
            assert stored == {name: row[name] for name in stored}
            curve = corpus.sql(f"select * from curves where trial_id = '{trial_id}' order by epoch")
            ran = [{"trial_id": trial_id, **record} for record in row["curve"]]
            schema = corpus.table("curves").schema
            assert curve.arrow().to_pylist() == rounded_curves(pa.Table.from_pylist(ran, schema)).to_pylist()
            for item in row["predictions"]:
                checkpoint = int(item["checkpoint"]) if item["checkpoint"].isdigit() else item["checkpoint"]
                y_true, y_prob = corpus.predictions(trial_id, split=item["split"], epoch=checkpoint)
                given = np.array(item["probabilities"]).reshape(-1, item["n_classes"])
                assert np.abs(y_prob - given).max() < 2e-3
                assert np.array_equal(y_prob.argmax(axis=1), given.argmax(axis=1))
                assert len(y_true) == len(given)


def test_splits_keep_groups_together_and_hold_the_caps(corpus):
    straddling = corpus.sql(
        'select "group" from splits group by dataset, fold, "group" having count(distinct role) > 1'
    )
    assert straddling.rows() == []
    counts = dict(corpus.sql("select role, count(*) from splits group by 1").rows())
    assert counts["train"] <= 60
    assert counts["val"] <= 40
    assert counts["test"] <= 40


def test_the_card_is_made_from_the_tables(corpus):
    card = (corpus.root / "README.md").read_text()
    tables = {name: corpus.table(name) for name in TABLE_NAMES}
    assert card == corpus_card(corpus.manifest["provenance"], tables)
    assert "9 trials of up to 3 epochs, 27 epochs in all" in card
    assert "- Made in a test." in card
    assert "| phantom_nodules3d | tiny_3d.scratch | 9 | 9 |" in card


def test_the_grid_is_a_benchmark_and_the_sobol_design_is_not_in_its_table(corpus):
    bench = corpus.benchmark("phantom_nodules3d")
    assert len(bench.configs) == 6
    designs = dict(corpus.sql("select design, count(*) from configs group by 1").rows())
    assert designs == {"grid": 6, "sobol": 3}


def test_an_unfinished_run_is_refused_or_sealed_in_part(run, tmp_path, command):
    partial = tmp_path / "run"
    shutil.copytree(run, partial)
    first = sorted((partial / "shards").iterdir())[0]
    first.unlink()
    missing = command("corpus-builder", "seal", partial, "--out", tmp_path / "corpus")
    assert_one_line_error(missing, "of 9 trials are not run yet", "run the plan again", "--partial")
    assert not (tmp_path / "corpus").exists()
    done = command("corpus-builder", "seal", partial, "--out", tmp_path / "corpus", "--partial")
    assert done.returncode == 0, done.stderr
    assert verify(tmp_path / "corpus") == []
    corpus = mq.open(tmp_path / "corpus")
    trials = corpus.table("trials").num_rows
    assert 0 < trials < 9
    assert f"{9 - trials} were not run yet" in (corpus.root / "README.md").read_text()
    assert corpus.manifest["provenance"]["trials_unfinished"] == 9 - trials


def test_failed_trials_are_rows_without_a_curve(run, tmp_path, command):
    """A run in which one trial failed at once and another in its second epoch still seals, and says so."""
    broken = tmp_path / "run"
    shutil.copytree(run, broken)
    opened = RunDirectory.open(broken)
    unit = opened.plan.units[0]
    shard = opened.read_shard(unit)
    rows = shard.to_pylist()
    rows[0] |= {"status": "failed", "error": "RuntimeError: boom", "epochs_run": 0, "curve": [], "predictions": []}
    rows[1] |= {"status": "diverged", "error": "nan in epoch 2", "epochs_run": 1, "curve": rows[1]["curve"][:1]}
    first = [p for p in rows[1]["predictions"] if p["checkpoint"] == "1"]
    rows[1]["predictions"] = [{**p, "checkpoint": c} for c in ("1", "best", "last") for p in first]
    pq.write_table(pa.Table.from_pylist(rows, schema=shard.schema), opened.shard_path(unit))
    corpus = mq.open(seal(broken, tmp_path / "corpus"))
    assert verify(corpus.root) == []
    assert corpus.sql("select status, count(*) from trials group by 1 order by 1").rows() == [
        ("completed", 7),
        ("diverged", 1),
        ("failed", 1),
    ]
    told = command("corpus-builder", "status", broken).stdout
    assert told.splitlines()[-2:] == ["1 x failed: RuntimeError: boom", "1 x diverged: nan in epoch 2"]
    assert "7 completed, 1 diverged, 1 failed" in (corpus.root / "README.md").read_text()


def test_a_directory_in_the_way_is_not_touched(run, tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "letter.txt").write_text("dear")
    with pytest.raises(InvalidInput, match="is not a sealed corpus"):
        seal(run, tmp_path / "corpus")
    assert [path.name for path in (tmp_path / "corpus").iterdir()] == ["letter.txt"]


def test_replay_finds_the_same_curve_and_notices_another(run, corpus, tmp_path, command):
    trial_id = corpus.table("trials")["trial_id"].to_pylist()[0]
    done = command("corpus-builder", "replay", corpus.root, trial_id)
    assert done.returncode == 0, done.stderr
    assert "the same curve as the corpus has" in done.stdout

    changed = tmp_path / "corpus"
    shutil.copytree(corpus.root, changed)
    curves = corpus.table("curves").to_pydict()
    for row, (owner, epoch) in enumerate(zip(curves["trial_id"], curves["epoch"], strict=True)):
        if (owner, epoch) == (trial_id, 2):
            curves["val_auc"][row] += 0.25
    pq.write_table(pa.table(curves, schema=corpus.table("curves").schema), changed / "curves.parquet")
    done = command("corpus-builder", "replay", changed, trial_id)
    assert done.returncode == 0, done.stderr
    assert "largest difference 0.25" in done.stdout


def test_replay_compares_exactly_with_a_corpus_that_states_no_resolution(corpus, tmp_path):
    trial_id = corpus.table("trials")["trial_id"].to_pylist()[0]
    shutil.copytree(corpus.root, tmp_path / "corpus")
    manifest = {key: value for key, value in corpus.manifest.items() if key != "curves"}
    (tmp_path / "corpus" / "corpus.json").write_text(json.dumps(manifest))
    differences = replay(tmp_path / "corpus", trial_id, Place(None, None))
    assert 0 < differences["val_auc"] <= 2**-13
    assert differences["learning_rate"] == 0


def test_replay_refuses_what_it_cannot_train(corpus, tmp_path, command):
    assert_one_line_error(command("corpus-builder", "replay", corpus.root, "0" * 16), "unknown trial")
    assert_one_line_error(command("corpus-builder", "replay", tmp_path, "0" * 16), "not a sealed corpus")
