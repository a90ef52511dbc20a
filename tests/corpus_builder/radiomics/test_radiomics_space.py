"""The space: networks alone as ever, and every hyperparameter for its own kind where both kinds are there."""

from __future__ import annotations

import pytest

import metaquery as mq
from corpus_builder.backbones import classical_names
from corpus_builder.space import search_space
from metaquery.schema import TABLE_NAMES, table
from metaquery.space import SearchSpace

NETWORKS = ["tiny_2d.scratch", "shufflenetv2_x0_5.imagenet"]
CLASSICAL = classical_names(2)


def names(space, backbone):
    return {name for config in space.grid() if config["backbone"] == backbone for name in config} - {"backbone"}


def test_networks_alone_have_the_space_of_the_bundled_corpus():
    stored = mq.open("mini").space
    grid = {"weight_decay": [1e-4], "augmentation": ["none"]}  # what the study of mini asks for
    assert search_space(stored["backbone"].choices).with_grid(grid) == stored


def test_configs_are_the_same_whoever_else_is_in_the_study():
    mixed = search_space([*NETWORKS, *CLASSICAL])
    apart = [*search_space(NETWORKS).grid(), *search_space(CLASSICAL).grid()]
    assert mixed.grid() == apart
    assert len({config.config_id for config in apart}) == 24 + 48 + 3 * 3


def test_each_kind_has_its_own_hyperparameters():
    mixed = search_space([*NETWORKS, *CLASSICAL])
    of_networks = {hp.name for hp in search_space(NETWORKS).hyperparameters}
    for backbone in NETWORKS:
        assert names(mixed, backbone) <= of_networks
    assert names(mixed, "radiomics.logreg") == {"feature_selection", "class_weight", "regularization"}
    assert names(mixed, "radiomics.svm") == {"feature_selection", "class_weight", "regularization"}
    assert names(mixed, "radiomics.rf") == {"feature_selection", "class_weight", "n_trees", "max_features"}


@pytest.mark.parametrize("backbones", [[name] for name in classical_names()] + [[*NETWORKS, "radiomics.rf"]])
def test_a_space_survives_its_json_and_has_no_dead_axis(backbones):
    space = search_space(backbones)
    assert SearchSpace.from_json(space.to_json()) == space
    reached = {
        name
        for u in (0.01, 0.3, 0.5, 0.7, 0.99)
        for b in backbones
        for name in space.complete({hp.name: hp.from_unit(u) for hp in space.hyperparameters} | {"backbone": b})
    }
    assert reached == set(space.by_name)


def test_no_hyperparameter_is_called_like_a_column():
    columns = {column.name for name in TABLE_NAMES for column in table(name).columns} - {"backbone"}
    assert not columns & set(search_space(CLASSICAL).by_name)
