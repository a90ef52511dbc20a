"""Every name of the space has an effect: a trial that differs in it alone has another curve."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_recipe import NAME, curve, tiny_config, tiny_data, tiny_trial

from corpus_builder.space import search_space
from corpus_builder.train.records import Part, TrialData, TrialSpec
from corpus_builder.train.trial import run_trial
from metaquery.types import Status

PLATEAU = {"schedule": "plateau", "lr": 0.1, "patience": 1, "warmup_epochs": 0, "optimizer": "momentum"}
STEP = {"schedule": "step", "decay_epochs": 3, "warmup_epochs": 0}
CLIPPED = {"optimizer": "sgd", "lr": 0.1}
MIXED = {"mixing": "mixup"}
NESTEROV = {"optimizer": "momentum"}
EPOCHS = 6

# hyperparameter, with the value for a categorical one -> the config that has it, and the one that it is compared with
EFFECTS = {
    "freeze": ({"freeze": 0.5}, {}),
    "linear_probing_epochs": ({"linear_probing_epochs": 1}, {}),
    "layer_decay": ({"layer_decay": 0.65}, {}),
    **{name: ({name: 0.1}, {}) for name in ("l2_sp", "bss", "delta")},
    "stochastic_norm": ({"stochastic_norm": 0.5}, {}),
    **{f"optimizer {name}": ({"optimizer": name}, {}) for name in ("sgd", "momentum", "adam")},
    "lr": ({"lr": 0.01}, {}),
    "momentum": ({**NESTEROV, "momentum": 0.5}, NESTEROV),
    "beta1": ({"beta1": 0.0}, {}),
    "beta2": ({"beta2": 0.95}, {}),
    "weight_decay": ({"weight_decay": 0.1}, {}),
    "gradient_clipping": ({**CLIPPED, "gradient_clipping": 1.0}, CLIPPED),
    "schedule none": ({"schedule": "none"}, {}),
    "schedule step": (STEP, {"warmup_epochs": 0}),
    "decay_rate": ({**STEP, "decay_rate": 0.5}, STEP),
    "decay_epochs": ({**STEP, "decay_epochs": 4}, STEP),
    "patience": ({**PLATEAU, "patience": 6}, PLATEAU),
    "warmup_epochs": ({"warmup_epochs": 0}, {}),
    "batch_size": ({"batch_size": 8}, {}),
    "ema": ({"ema": 0.99}, {}),
    "dropout": ({"dropout": 0.5}, {}),
    "label_smoothing": ({"label_smoothing": 0.2}, {}),
    **{f"class_balance {kind}": ({"class_balance": kind}, {}) for kind in ("weighting", "sampling")},
    **{f"mixing {kind}": ({"mixing": kind}, {}) for kind in ("mixup", "cutmix", "both")},
    "mixing_alpha": ({**MIXED, "mixing_alpha": 1.0}, MIXED),
    "mixing_probability": ({**MIXED, "mixing_probability": 0.5}, MIXED),
    **{f"augmentation {kind}": ({"augmentation": kind}, {}) for kind in ("light", "medical", "trivial")},
}


@pytest.fixture(scope="module")
def data():
    """Labels of the validation part are wrong: its loss only grows, as `plateau` needs to see."""
    made = tiny_data()
    return TrialData(made.train, Part(made.val.images, 1 - made.val.labels), made.test, 2)


@pytest.mark.parametrize("name", EFFECTS)
def test_it_completes_and_changes_the_curve(name, data):
    with_it, without = (tiny_trial(data, epochs=EPOCHS, **values) for values in EFFECTS[name])
    assert (with_it.status, with_it.error) == (Status.COMPLETED, None)
    assert len(with_it.epochs) == EPOCHS
    assert all(math.isfinite(value) for row in curve(with_it) for value in row)
    assert curve(with_it)[-1] != curve(without)[-1]


def test_the_schedule_plateau_reduces_the_rate_in_a_trial(data):
    result = tiny_trial(data, epochs=12, **PLATEAU)
    rates = [row["learning_rate"] for row in result.epochs]
    best, waited, expected = math.inf, 0, [0.1]
    for row in result.epochs[:-1]:
        waited = 0 if row["val_loss"] < best else waited + 1
        best = min(best, row["val_loss"])
        expected.append(expected[-1] * (0.1 if waited > 1 else 1))
        waited = 0 if waited > 1 else waited
    assert rates == pytest.approx(expected)
    assert rates[-1] < 0.1


def test_no_hyperparameter_is_left_out():
    named = {name.split()[0] for name in EFFECTS}
    space = search_space([NAME, "shufflenetv2_x0_5.imagenet"])
    assert named == set(space.by_name) - {"backbone"}
    for hp in space.hyperparameters:
        if hp.kind == "categorical" and hp.name not in ("backbone", "schedule"):
            others = {str(choice) for choice in hp.choices} - {str(hp.default)}
            assert {name.split()[1] for name in EFFECTS if name.split()[0] == hp.name} == others


def test_neutral_values_of_what_only_pretrained_backbones_have_change_nothing(data):
    """The tiny net with and without these names: absent and neutral are the same to the last bit."""
    absent = search_space([NAME]).default()
    assert set(tiny_config()) - set(absent) >= {"freeze", "layer_decay", "delta"}
    result = run_trial(TrialSpec("made", "key", 0, absent, 0, 3), data, torch.device("cpu"), None)
    assert curve(result) == curve(tiny_trial(data))
