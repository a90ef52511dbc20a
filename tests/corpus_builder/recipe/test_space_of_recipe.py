"""The search space: what is active when, defaults that change nothing, and two designs over it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_builder.space import search_space
from metaquery.errors import InvalidConfig, InvalidInput

SPACE = search_space(["tiny_2d.scratch", "shufflenetv2_x0_5.imagenet"])
PRETRAINED = {"backbone": "shufflenetv2_x0_5.imagenet"}
OF_TUNING = ("linear_probing_epochs", "layer_decay", "l2_sp", "bss", "delta", "stochastic_norm")

# name -> values with which it is active, values with which it is not
ACTIVITY = {
    "freeze": ([PRETRAINED], [{"backbone": "tiny_2d.scratch"}]),
    **{
        name: (
            [{**PRETRAINED, "freeze": share} for share in (0.0, 0.25, 0.5, 0.75)],
            [{**PRETRAINED, "freeze": 1.0}, {"backbone": "tiny_2d.scratch"}],
        )
        for name in OF_TUNING
    },
    "momentum": ([{"optimizer": "momentum"}], [{"optimizer": name} for name in ("sgd", "adam", "adamw")]),
    **{
        name: ([{"optimizer": "adam"}, {"optimizer": "adamw"}], [{"optimizer": "sgd"}, {"optimizer": "momentum"}])
        for name in ("beta1", "beta2")
    },
    "decay_rate": ([{"schedule": "step"}, {"schedule": "plateau"}], [{"schedule": "none"}, {"schedule": "cosine"}]),
    "decay_epochs": ([{"schedule": "step"}], [{"schedule": name} for name in ("none", "cosine", "plateau")]),
    "patience": ([{"schedule": "plateau"}], [{"schedule": name} for name in ("none", "cosine", "step")]),
    **{
        name: ([{"mixing": kind} for kind in ("mixup", "cutmix", "both")], [{"mixing": "none"}])
        for name in ("mixing_alpha", "mixing_probability")
    },
}


def test_the_table_of_conditions_is_complete():
    assert set(ACTIVITY) == {hp.name for hp in SPACE.hyperparameters if hp.condition is not None}


@pytest.mark.parametrize("name", ACTIVITY)
def test_a_conditional_hyperparameter_is_active_where_it_means_something_and_nowhere_else(name):
    active, inactive = ACTIVITY[name]
    for values in active:
        complete = SPACE.complete(values)
        assert name in complete
        with pytest.raises(InvalidConfig, match=f"lacks {name}"):
            SPACE.config({key: value for key, value in complete.items() if key != name})
    for values in inactive:
        complete = SPACE.complete(values)
        assert name not in complete
        with pytest.raises(InvalidConfig, match=f"{name} is only active where"):
            SPACE.config({**complete, name: SPACE[name].default})


def test_a_space_of_scratch_backbones_has_nothing_that_needs_pretrained_weights():
    scratch = search_space(["tiny_2d.scratch"])
    assert set(SPACE.by_name) - set(scratch.by_name) == {"freeze", *OF_TUNING}


def test_no_backbone_is_refused():
    with pytest.raises(InvalidInput, match="at least one backbone"):
        search_space([])


def test_the_grid_is_the_complete_factorial_of_the_core():
    # optimizer x lr x weight_decay x augmentation; the pretrained backbone tuned as a whole or only probed
    assert len(SPACE.grid()) == (1 + 2) * 2 * 3 * 2 * 2
    assert len(set(SPACE.grid())) == 72


def test_defaults_switch_everything_beyond_plain_training_off():
    off = dict.fromkeys(("freeze", "linear_probing_epochs", "l2_sp", "bss", "delta", "stochastic_norm"), 0)
    off |= dict.fromkeys(("gradient_clipping", "ema", "dropout", "label_smoothing"), 0)
    off |= dict.fromkeys(("class_balance", "mixing", "augmentation"), "none") | {"layer_decay": 1}
    default = SPACE.complete(PRETRAINED)
    assert {name: default[name] for name in off} == off


@given(st.integers(0, 2**32 - 1))
def test_every_point_of_the_cube_is_a_config_that_comes_back(seed):
    config = SPACE.sample(np.random.default_rng(seed))
    assert SPACE.config(config) == config
    coordinates = SPACE.to_unit(config)
    again = SPACE.from_unit([0.5 if np.isnan(u) else u for u in coordinates])
    for name, value in config.items():
        assert again[name] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)


def test_no_hyperparameter_is_called_like_a_column_it_would_be_joined_with():
    from metaquery.schema import TABLE_NAMES, table

    columns = {c.name for name in TABLE_NAMES for c in table(name).columns} - {"backbone"}  # backbone is a key
    assert not columns & set(SPACE.by_name)
