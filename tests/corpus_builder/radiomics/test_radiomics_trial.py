"""A trial of a classical member: one honest record, the same twice, and a status for everything that can go wrong."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import corpus_builder.radiomics.trial as trial_module
from corpus_builder.backbones import backbone_names, backbone_spec, classical_names, member_names, member_spec
from corpus_builder.backbones.describe import backbone_row, listing
from corpus_builder.execute import Place
from corpus_builder.execute.work import run_any_trial
from corpus_builder.radiomics.features import extract
from corpus_builder.radiomics.model import fit
from corpus_builder.radiomics.trial import part_features, run_classical_trial
from corpus_builder.space import search_space
from corpus_builder.train.records import Part, TrialData, TrialSpec
from metaquery.errors import UnknownName
from metaquery.metrics import compute_all, log_loss
from metaquery.schema import table
from metaquery.schema.tables import from_rows
from metaquery.types import Status

SPACES = {name: search_space([name]) for name in classical_names()}


@cache
def make_data(n_dims=2, n_classes=2, n=45, side=8) -> TrialData:
    """Textures whose contrast tells the class."""
    rng = np.random.default_rng(0)

    def part(count):
        labels = np.arange(count) % n_classes
        images = 128 + rng.normal(0, 1, (count, 1, *[side] * n_dims)) * (10 + 12 * labels).reshape(
            -1, *[1] * (n_dims + 1)
        )
        return Part(np.clip(images, 0, 255).astype(np.uint8), labels.astype(np.int64))

    return TrialData(part(n), part(n // 2), part(n // 2), n_classes)


def spec(name, seed=0, epochs=27, **values) -> TrialSpec:
    small = {"n_trees": 50} if name.endswith(".rf") else {}
    return TrialSpec("made", "key", 0, SPACES[name].complete(small | values), seed, epochs)


def run(name, data, **values):
    return run_classical_trial(spec(name, **values), data, member_spec(name))


def without_costs(result):
    return [{k: v for k, v in epoch.items() if not k.endswith("seconds")} for epoch in result.epochs]


@pytest.mark.parametrize("name", classical_names())
@pytest.mark.parametrize("n_classes", [2, 3])
def test_every_member_learns_what_it_can_see_and_leaves_one_record(name, n_classes):
    data = make_data(member_spec(name).n_dims, n_classes)
    result = run(name, data)
    assert (result.status, result.error) == (Status.COMPLETED, None)
    (record,) = result.epochs
    assert record["epoch"] == 27
    assert record["learning_rate"] is None
    assert min(record["val_auc"], record["test_auc"]) > 0.8
    columns = {column.name for column in table("curves").columns} - {"trial_id"}
    assert set(record) == columns
    assert set(result.predictions) == {27, "best", "last"}
    for split, part in (("val", data.val), ("test", data.test)):
        p = result.predictions["last"][split]
        assert p.shape == (len(part.labels), n_classes)
        for metric, value in compute_all(part.labels, p.astype(np.float64)).items():
            assert record[f"{split}_{metric}"] == value


@pytest.mark.parametrize("selection", ["none", "univariate", "pca"])
@pytest.mark.parametrize("name", classical_names(2))
def test_every_selection_works_also_where_it_may_keep_more_than_there_is(name, selection):
    values = {"feature_selection": selection, "class_weight": "balanced"}
    result = run(name, make_data(n=30), **values, **({} if selection == "none" else {"n_features": 100}))
    assert (result.status, result.error) == (Status.COMPLETED, None)


def test_selection_keeps_the_features_it_is_told_to():
    data = make_data()
    features = part_features(data.train).table
    for selection, step in (("univariate", "selectkbest"), ("pca", "pca")):
        config = SPACES["radiomics.logreg"].complete({"feature_selection": selection, "n_features": 7})
        pipeline = fit(features, data.train.labels, "logreg", config, 0)
        inner = pipeline.named_steps["pipeline-2"]
        assert inner.named_steps[step].transform(np.zeros((1, inner.n_features_in_))).shape == (1, 7)


@pytest.mark.parametrize("name", classical_names(2))
def test_the_same_seed_gives_the_same_and_a_forest_takes_its_own(name):
    data = make_data(n_classes=3)
    first, again, other = (without_costs(run(name, data, seed=seed)) for seed in (3, 3, 4))
    assert first == again
    if name.endswith(".rf"):
        assert first != other
    if name.endswith(".logreg"):
        assert first == other


@pytest.mark.parametrize(("name", "weak", "strong"), [("radiomics.logreg", 1e3, 1e-4), ("radiomics.svm", 1e3, 1e-4)])
def test_a_weaker_penalty_fits_the_training_part_closer(name, weak, strong):
    data = make_data()
    close, loose = (run(name, data, regularization=c).epochs[0]["train_loss"] for c in (weak, strong))
    assert close < loose


def test_the_training_loss_is_that_of_the_training_part():
    data, chosen = make_data(), spec("radiomics.logreg")
    model = fit(part_features(data.train).table, data.train.labels, "logreg", chosen.config, 0)
    expected = log_loss(data.train.labels, model.predict_proba(part_features(data.train).table))
    assert run("radiomics.logreg", data).epochs[0]["train_loss"] == pytest.approx(expected)


class TestCosts:
    def test_features_are_measured_once_and_charged_to_each(self, monkeypatch):
        calls = []
        monkeypatch.setattr(trial_module, "extract", lambda *args: calls.append(len(args[0])) or extract(*args))
        data = make_data(n=44)  # no other test has measured its features
        seconds = [part_features(part).seconds for part in (data.train, data.val, data.test)]
        assert calls == [1, 44, 1, 22, 1, 22]  # one sample first, which is nobody's cost
        for name in ("radiomics.logreg", "radiomics.rf"):
            result = run(name, data)
            (record,) = result.epochs
            assert record["train_seconds"] > seconds[0]
            assert record["eval_seconds"] > seconds[1] + seconds[2]
            assert result.total_seconds >= record["train_seconds"] + record["eval_seconds"]
        assert len(calls) == 6

    def test_a_trial_that_failed_has_spent_its_features(self):
        data = make_data()
        one = TrialData(data.train, data.val, data.test, n_classes=3)
        result = run("radiomics.rf", one)
        assert result.total_seconds > sum(part_features(part).seconds for part in (data.train, data.val, data.test))


class TestFailures:
    def failed(self, result, *words):
        assert result.status == Status.FAILED
        assert (result.epochs, result.predictions) == ([], {})
        assert "\n" not in result.error
        for word in words:
            assert word in result.error

    @pytest.mark.parametrize("name", classical_names(2))
    def test_a_class_without_training_samples(self, name):
        data = make_data()
        lone = Part(data.train.images, np.zeros_like(data.train.labels))
        self.failed(run(name, TrialData(lone, data.val, data.test, 2)), "all 2 classes, got 1")

    def test_no_feature_that_varies(self):
        data = make_data()
        flat = Part(np.full_like(data.train.images, 7), data.train.labels)
        self.failed(run("radiomics.logreg", TrialData(flat, data.val, data.test, 2)), "ValueError", "variance")

    def test_features_that_are_not_numbers(self):
        data = make_data()
        masks = np.zeros((45, 8, 8), dtype=bool)  # nothing is in the region of any sample
        empty = Part(data.train.images, data.train.labels, masks)
        others = (Part(part.images, part.labels, masks[:22]) for part in (data.val, data.test))
        self.failed(run("radiomics.svm", TrialData(empty, *others, 2)), "ValueError")

    def test_no_memory(self, monkeypatch):
        def fail(*_):
            raise MemoryError

        monkeypatch.setattr(trial_module, "fit", fail)
        assert run("radiomics.rf", make_data()).status == Status.OUT_OF_MEMORY


def test_a_sample_without_a_region_takes_the_median_of_the_others():
    data = make_data()
    rng = np.random.default_rng(1)

    def with_masks(part):
        masks = np.zeros((len(part.labels), 8, 8), dtype=bool)
        for mask in masks[1:]:
            mask[1 : rng.integers(4, 8), 1 : rng.integers(4, 8)] = True
        return Part(part.images, part.labels, masks)

    masked = TrialData(*(with_masks(part) for part in (data.train, data.val, data.test)), 2)
    assert np.isnan(part_features(masked.train).table).all(axis=1).tolist() == [True] + [False] * 44
    result = run("radiomics.logreg", masked)
    assert (result.status, result.error) == (Status.COMPLETED, None)


class TestMembers:
    def test_networks_and_others_are_told_apart(self):
        assert set(member_names()) == {*backbone_names(), *classical_names()}
        assert not {*backbone_names()} & {*classical_names()}
        with pytest.raises(UnknownName, match=r"radiomics\.rf is not a network"):
            backbone_spec("radiomics.rf")

    @pytest.mark.parametrize("name", classical_names())
    def test_a_member_is_named_by_features_and_classifier(self, name):
        member = member_spec(name)
        assert name == f"radiomics{'_3d' if member.n_dims == 3 else ''}.{member.classifier}"

    @pytest.mark.parametrize("name", classical_names())
    def test_its_row_is_one_of_the_table(self, name):
        size = (8,) * member_spec(name).n_dims
        row = backbone_row(name, size)
        assert from_rows(table("backbones").arrow_schema(), [row], what="backbones").to_pylist() == [row]
        assert (row["family"], row["parameters"], row["flops"]) == ("radiomics", None, None)

    def test_the_listing_has_them(self):
        rows = {row["backbone"]: row for row in listing(None)}
        assert list(rows) == member_names()
        assert {rows[name]["weights present"] for name in classical_names()} == {"-"}

    def test_a_trial_goes_to_whom_it_belongs(self):
        data, place = make_data(), Place(None, None)
        network = search_space(["tiny_2d.scratch"]).complete({})
        assert len(run_any_trial(TrialSpec("made", "key", 0, network, 0, 2), data, place).epochs) == 2
        assert len(run_any_trial(spec("radiomics.rf"), data, place).epochs) == 1
