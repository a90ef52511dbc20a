"""The bundled corpus is sound, real, small, and what its card says."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import metaquery as mq
from corpus_builder.card import corpus_card
from corpus_builder.datasets import load_card
from corpus_builder.execute import Place
from corpus_builder.plan import make_plan
from corpus_builder.replay import replay
from corpus_builder.study import Study, load_study
from metaquery.schema import TABLE_NAMES
from metaquery.types import MAX_EPOCHS
from metaquery.verify import verify

STUDIES = Path(__file__).parents[1] / "studies"


@pytest.fixture(scope="module")
def mini():
    return mq.open("mini")


def test_it_is_sound(mini):
    assert verify("mini") == []


def test_it_holds_at_least_a_hundred_full_trials_in_a_few_megabytes(mini):
    ((full,),) = mini.sql(
        f"select count(*) from trials where epochs_run = {MAX_EPOCHS} and status = 'completed'"
    ).rows()
    assert full >= 100
    assert sum(entry["bytes"] for entry in mini.manifest["files"]) < 5e6


def test_it_is_what_its_study_asks_for(mini):
    stored = mini.manifest["provenance"]["study"]
    assert stored == yaml.safe_load((STUDIES / "mini.yaml").read_text())
    planned = {trial.spec.trial_id for trial in make_plan(Study.from_document(stored)).trials}
    assert set(mini.table("trials")["trial_id"].to_pylist()) == planned
    assert load_study(STUDIES / "mini.yaml").document == stored


def test_its_card_is_made_from_its_tables(mini):
    tables = {name: mini.table(name) for name in TABLE_NAMES}
    assert (mini.root / "README.md").read_text() == corpus_card(mini.manifest["provenance"]["study"], tables)


def test_its_datasets_are_those_of_the_cards(mini):
    for row in mini.table("datasets").to_pylist():
        card = load_card(row["dataset"])
        assert (row["n_samples"], row["n_groups"], row["class_names"], row["family"], row["licence"]) == (
            card.n_samples,
            card.n_groups,
            list(card.classes),
            card.family,
            card.licence,
        )


def test_every_dataset_is_a_complete_table(mini):
    for dataset in mini.datasets:
        bench = mini.benchmark(dataset)
        assert set(bench.configs) == set(bench.space.grid())


def test_costs_are_positive_and_named(mini):
    assert mini.sql("select count(*) from curves where train_seconds <= 0 or eval_seconds <= 0").rows() == [(0,)]
    assert mini.sql("select distinct engine, cost_source from trials").rows() == [("single", "measured")]


def test_a_trial_trains_again_to_the_curve_that_is_stored(mini, data_root, weights_root):
    """A linear probe, which is cheap and does not amplify what another processor rounds otherwise."""
    ((trial_id,),) = mini.sql(
        "select trial_id from trials join configs using (config_id) "
        "where \"freeze\" = 1 and backbone = 'shufflenetv2_x0_5.imagenet' and dataset = 'iqoth_lung_ct' "
        "and optimizer = 'adamw' and lr = 0.01"
    ).rows()
    differences = replay(mini.root, trial_id, Place(data_root, weights_root))
    for name in ("learning_rate", "train_loss", "val_loss", "val_auc", "test_loss", "test_auc"):
        assert differences[name] <= 1e-3, name
