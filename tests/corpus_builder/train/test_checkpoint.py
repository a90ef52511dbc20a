"""A trial that stops and goes on, through a file, is the trial that never stopped, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_recipe import tiny_config, tiny_data

from corpus_builder.train.checkpoint import Checkpoint
from corpus_builder.train.records import TrialSpec
from corpus_builder.train.trial import advance_trial, run_trial
from metaquery.errors import InvalidInput
from metaquery.space import Config
from metaquery.types import Status

CPU = torch.device("cpu")
EVERYTHING = {
    "dropout": 0.3,
    "augmentation": "medical",
    "mixing": "mixup",
    "mixing_alpha": 0.4,
    "mixing_probability": 0.5,
    "ema": 0.99,
    "class_balance": "sampling",
    "schedule": "plateau",
    "patience": 1,
    "decay_rate": 0.5,
    "optimizer": "momentum",
    "gradient_clipping": 1.0,
    "l2_sp": 0.01,
    "bss": 0.001,
    "delta": 0.01,
    "stochastic_norm": 0.5,
    "linear_probing_epochs": 4,
}


def spec(epochs=9, time_limit=None, **values) -> TrialSpec:
    return TrialSpec("made", "key", 0, tiny_config(**values), 3, epochs, time_limit)


def numbers(result):
    return [{name: value for name, value in row.items() if not name.endswith("seconds")} for row in result.epochs]


def assert_same(one, other):
    assert (one.status, one.error) == (other.status, other.error)
    assert numbers(one) == numbers(other)
    assert one.predictions.keys() == other.predictions.keys()
    for epoch, parts in one.predictions.items():
        for split, p in parts.items():
            assert np.array_equal(p, other.predictions[epoch][split])


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer": "adamw", "schedule": "cosine"},
        EVERYTHING,
        {"freeze": 1.0, "optimizer": "adam", "schedule": "step"},
    ],
    ids=["plain", "everything", "kept activations"],
)
def test_three_epochs_and_then_to_nine_are_nine_at_once(values, tmp_path):
    data, chosen, path = tiny_data(), spec(**values), tmp_path / "trial.pt"
    whole = run_trial(chosen, data, CPU, None)
    assert (whole.status, len(whole.epochs)) == (Status.COMPLETED, 9), whole.error
    advance_trial(chosen, data, CPU, None, 3).save(path)
    at_three = Checkpoint.load(path)
    assert numbers(at_three.result) == numbers(whole)[:3]
    torch.manual_seed(99)  # whatever happened in between
    rest = advance_trial(chosen, tiny_data(), CPU, None, 9, at_three)
    assert rest.state is None
    assert_same(rest.result, whole)
    assert len(at_three.result.epochs) == 3, "going on must not change where it started from"


def test_only_new_epochs_are_trained_and_all_seconds_are_counted():
    chosen = spec()
    first = advance_trial(chosen, tiny_data(), CPU, None, 3)
    rest = advance_trial(chosen, tiny_data(), CPU, None, 9, first)
    assert rest.result.epochs[:3] == first.result.epochs
    new = sum(row["train_seconds"] + row["eval_seconds"] for row in rest.result.epochs[3:])
    assert rest.result.total_seconds >= first.result.total_seconds + new


def test_a_trial_that_failed_has_nothing_to_go_on_from():
    late = advance_trial(spec(time_limit=1e-9), tiny_data(), CPU, None, 3)
    assert (late.result.status, len(late.result.epochs), late.state) == (Status.TIMED_OUT, 1, None)
    wild = replace(spec(), config=Config({**spec(optimizer="sgd", warmup_epochs=0).config, "lr": 1e30}))
    diverged = advance_trial(wild, tiny_data(), CPU, None, 3)
    assert (diverged.result.status, diverged.state) == (Status.DIVERGED, None)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02cos\nsystem\nq\x00."])
def test_a_file_that_is_no_checkpoint_is_refused(content, tmp_path):
    path = tmp_path / "trial.pt"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="remove it"):
        Checkpoint.load(path)
