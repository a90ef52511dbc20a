"""The bundled corpora are sound, real, small, and what their cards say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import metaquery as mq
from corpus_builder.card import corpus_card
from corpus_builder.datasets import load_card
from corpus_builder.execute import Place
from corpus_builder.plan import study_trials
from corpus_builder.replay import replay
from corpus_builder.study import Study, load_study
from metaquery.schema import TABLE_NAMES
from metaquery.types import EPOCHLESS_FAMILY, MAX_EPOCHS
from metaquery.verify import verify

STUDIES = Path(__file__).parents[1] / "studies"
# By corpus: its study, the least number of trials that ran to their end, and the most bytes.
BUNDLED = {"mini": ("mini.yaml", 100, 5e6), "medcurves": ("medcurves-1.0.yaml", 1_000, 25e6)}


@pytest.fixture(scope="module", params=BUNDLED)
def corpus(request):
    return mq.open(request.param)


@pytest.fixture(scope="module")
def planned(corpus):
    study = Study.from_document(corpus.manifest["provenance"]["study"])
    return {trial.spec.trial_id: trial.cell for trial in study_trials(study)}


def test_it_is_sound(corpus):
    assert verify(corpus.name) == []


def test_it_holds_enough_full_trials_in_a_few_megabytes(corpus):
    _, least, most = BUNDLED[corpus.name]
    ((full,),) = corpus.sql(
        f"select count(*) from trials where epochs_planned = {MAX_EPOCHS} and status = 'completed'"
    ).rows()
    assert full >= least
    assert sum(path.stat().st_size for path in corpus.root.rglob("*") if path.is_file()) < most


def test_it_is_of_its_study(corpus, planned):
    stored, path = corpus.manifest["provenance"]["study"], STUDIES / BUNDLED[corpus.name][0]
    assert stored == yaml.safe_load(path.read_text())
    assert load_study(path).document == stored
    here = set(corpus.table("trials")["trial_id"].to_pylist())
    assert here <= planned.keys()
    provenance = corpus.manifest["provenance"]
    missing = provenance.get("trials_left_out", 0) + provenance.get("trials_unfinished", 0)
    assert len(here) == len(planned) - missing


def test_every_backbone_has_a_trial_on_every_dataset_that_it_takes(corpus, planned):
    cells = corpus.sql("select distinct dataset, backbone from trials join configs using (config_id)").rows()
    assert set(cells) == set(planned.values())


def test_its_card_is_made_from_its_tables(corpus):
    tables = {name: corpus.table(name) for name in TABLE_NAMES}
    assert (corpus.root / "README.md").read_text() == corpus_card(corpus.manifest["provenance"], tables)


def test_its_datasets_are_those_of_the_cards(corpus):
    for row in corpus.table("datasets").to_pylist():
        card = load_card(row["dataset"])
        assert (row["n_samples"], row["n_groups"], row["class_names"], row["family"], row["licence"]) == (
            card.n_samples,
            card.n_groups,
            list(card.classes),
            card.family,
            card.licence,
        )


def test_costs_are_positive_and_named(corpus):
    assert corpus.sql("select count(*) from curves where train_seconds <= 0 or eval_seconds <= 0").rows() == [(0,)]
    assert corpus.sql("select distinct engine, cost_source from trials").rows() == [("single", "measured")]


def test_every_dataset_of_mini_is_a_complete_table():
    mini = mq.open("mini")
    for dataset in mini.datasets:
        bench = mini.benchmark(dataset)
        assert set(bench.configs) == set(bench.space.grid())


def test_medcurves_tells_the_noise_of_seeds_and_folds():
    """At least a tenth of the dataset x backbone cells have a config with three seeds, and one on more folds."""
    medcurves = mq.open("medcurves")
    cells = "select distinct dataset, backbone from trials join configs using (config_id)"
    ((seeds, folds),) = medcurves.sql(f"""
        select count(distinct (dataset, backbone)) filter (n_seeds >= 3),
               count(distinct (dataset, backbone)) filter (n_folds >= 2)
        from (
            select dataset, backbone, config_id, count(distinct fold) as n_folds,
                   count(distinct seed) filter (fold = 0) as n_seeds
            from trials join configs using (config_id) join backbones using (backbone)
            where family <> '{EPOCHLESS_FAMILY}' group by all)""").rows()
    assert min(seeds, folds) >= len(medcurves.sql(cells).rows()) / 10


@pytest.mark.parametrize("name", BUNDLED)
def test_a_trial_trains_again_to_the_curve_that_is_stored(name, data_root, weights_root):
    """A linear probe, which is cheap and does not amplify what another processor rounds otherwise."""
    corpus = mq.open(name)
    (trial_id,), *_ = corpus.sql(
        "select trial_id from trials join configs using (config_id) "
        "where \"freeze\" = 1 and backbone = 'shufflenetv2_x0_5.imagenet' and dataset = 'iqoth_lung_ct' "
        "and optimizer = 'adamw' and lr = 0.01 and augmentation = 'none' order by trial_id"
    ).rows()
    differences = replay(corpus.root, trial_id, Place(data_root, weights_root))
    for column in ("learning_rate", "train_loss", "val_loss", "val_auc", "test_loss", "test_auc"):
        assert differences[column] <= 1e-3, column
