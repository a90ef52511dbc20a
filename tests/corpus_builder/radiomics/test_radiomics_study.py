"""A study of a network and classical members, from the plan to a sealed corpus that is a benchmark."""

from __future__ import annotations

import pytest
from phantom_study import write_study

import metaquery as mq
from corpus_builder.backbones import classical_names
from corpus_builder.execute import Place, RunDirectory, run_plan
from corpus_builder.execute.status import run_status
from corpus_builder.plan import make_plan, read_plan, write_plan
from corpus_builder.replay import replay
from corpus_builder.seal import seal
from corpus_builder.study import load_study
from metaquery.verify import verify

CLASSICAL = classical_names(3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("radiomics")
    caps = {"train": 30, "val": 20, "test": 20}
    six = {"grid": {"weight_decay": [1e-4], "augmentation": ["none"]}}  # of the network, and three of each member
    members = ["tiny_3d.scratch", *CLASSICAL]
    study = write_study(root / "study.yaml", backbones=members, caps=caps, trials_per_unit=3, designs=six)
    write_plan(make_plan(load_study(study)), root / "plan.parquet")
    counts = run_plan(read_plan(root / "plan.parquet"), root / "run", Place(None, None))
    assert counts == {"completed": 6 + 9}
    counted = run_status(RunDirectory.open(root / "run"))
    assert sum(counted.finished.values()) == 15
    return mq.open(seal(root / "run", root / "corpus"))


def test_it_is_sound_and_says_what_is_no_network(corpus):
    assert verify(corpus.root) == []
    card = (corpus.root / "README.md").read_text()
    assert "| radiomics_3d.rf | - | - | - |" in card
    assert "scikit-image" in card


def test_the_last_epoch_compares_all(corpus):
    rows = corpus.sql(
        "select backbone, count(*), max(precision), bool_and(learning_rate is null), max(epochs_run) from curves "
        "join trials using (trial_id) join configs using (config_id) where epoch = 3 group by 1 order by 1"
    ).rows()
    classical = [(name, 3, "float64", True, 1) for name in CLASSICAL]
    assert rows == [*classical, ("tiny_3d.scratch", 6, "float32", False, 3)]


def test_it_is_a_benchmark_for_optimizers(corpus):
    bench = corpus.benchmark("phantom_nodules3d")
    assert len(bench.configs) == 15
    whole = next(config for config in bench.configs if config["backbone"] == "radiomics_3d.svm")
    assert bench.query(whole, 1) == bench.query(whole, 3)
    for name in ("random", "dehb"):
        trajectory = mq.run(mq.optimizer(name, seed=0), bench, mq.Budget(trials=20))
        assert {step.config["backbone"] for step in trajectory.steps} & set(CLASSICAL)


@pytest.mark.parametrize("backbone", CLASSICAL)
def test_a_trial_runs_again_to_the_same_record(corpus, backbone):
    query = f"select trial_id from trials join configs using (config_id) where backbone = '{backbone}' limit 1"
    ((trial_id,),) = corpus.sql(query).rows()
    assert set(replay(corpus.root, trial_id, Place(None, None)).values()) == {0.0}
