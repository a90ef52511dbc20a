"""Costs that are put together from measurements are those that a trial alone has."""

from __future__ import annotations

import json
import statistics

import numpy as np
import pytest
import torch
from tiny_recipe import tiny_config

from corpus_builder.space import search_space
from corpus_builder.train.calibration import Calibration, Measurement, Situation, calibrate, metric_seconds
from corpus_builder.train.flops import epoch_flops
from corpus_builder.train.records import EpochCost, Part, TrialData, TrialSpec
from corpus_builder.train.trial import run_trial
from metaquery.errors import InvalidData, InvalidInput
from metaquery.space import Config

CPU = torch.device("cpu")


def data(n=96, side=32) -> TrialData:
    rng = np.random.default_rng(0)
    parts = (Part(rng.integers(0, 255, (m, 1, side, side), dtype=np.uint8), np.arange(m) % 3) for m in (n, 64, 64))
    return TrialData(*parts, 3)


def config(**values) -> Config:
    return search_space(["tiny_2d.scratch"]).complete(values)


HERE = Situation("tiny_2d.scratch", 1, (32, 32), 16, 0.0, "none")


def test_an_epoch_is_its_steps_its_samples_and_its_extras():
    extras = {(*HERE[:3], "augmentation", "light"): 0.01, (*HERE[:3], "ema", "on"): 0.5}
    known = Calibration("a device", {HERE: Measurement(2.0, 0.25, None)}, extras, {})
    metrics = 2 * metric_seconds(64, 3)
    assert known.epoch_cost(config(batch_size=16), 1, data()) == pytest.approx(EpochCost(12.0, 32.0 + metrics))
    dear = config(batch_size=16, augmentation="light", ema=0.9)
    assert known.epoch_cost(dear, 1, data()).train_seconds == pytest.approx(6 * (2.0 + 16 * 0.01 + 0.5))
    assert known.epoch_cost(config(batch_size=16), 1, data(n=10)).train_seconds == 2.0  # one step of all ten samples


def test_linear_probing_epochs_cost_what_a_frozen_backbone_costs():
    base = {HERE: Measurement(2.0, 0.0, None), HERE._replace(freeze=1.0): Measurement(0.5, 0.0, None)}
    probing = Config({**tiny_config(batch_size=16, linear_probing_epochs=2), "backbone": "tiny_2d.scratch"})
    known = Calibration("a device", base, {}, {})
    assert [known.epoch_cost(probing, epoch, data()).train_seconds for epoch in (1, 2, 3)] == [3.0, 3.0, 12.0]


def test_what_was_not_measured_is_refused_with_the_way_to_measure_it():
    with pytest.raises(InvalidInput, match=r"lacks tiny_2d.scratch at 32x32, batch 64, freeze 0.*calibrate"):
        Calibration("a device", {}, {}, {}).epoch_cost(config(batch_size=64), 1, data())


def test_the_best_width_is_the_one_that_takes_least_and_one_where_none_pays():
    known = Calibration("a device", {}, {}, {(HERE, 4): 0.5, (HERE, 16): 0.25, (HERE, 64): 0.75})
    assert known.best_width(config(batch_size=16), data()) == 16
    assert known.best_width(config(batch_size=32), data()) == 1
    assert Calibration("a device", {}, {}, {(HERE, 4): 1.5}).best_width(config(batch_size=16), data()) == 1


def test_calibrating_measures_what_is_needed_and_no_more(tmp_path):
    lines: list[str] = []
    needed = [(config(batch_size=16), data()), (config(batch_size=16, augmentation="light"), data())]
    known = calibrate(needed, CPU, None, widths=[2], progress=lines.append)
    assert set(known.base) == {HERE, HERE._replace(batch_size=32)}
    assert set(known.extras) == {(*HERE[:3], "augmentation", "light")}
    assert set(known.fused) == {(HERE, 2)}
    assert all(m.step_seconds > 0 for m in known.base.values())
    known.save(tmp_path / "calibration.json")
    read = Calibration.load(tmp_path / "calibration.json")
    assert (read.device, read.base, read.extras, read.fused) == (known.device, known.base, known.extras, known.fused)
    lines.clear()
    calibrate(needed, CPU, None, known=read, widths=[2], progress=lines.append)
    assert lines == []


def test_a_calibration_of_another_device_is_not_extended():
    with pytest.raises(InvalidInput, match="the calibration is of a device"):
        calibrate([], CPU, None, known=Calibration("a device", {}, {}, {}))


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", json.dumps({"device": "x", "base": [{}], "extras": [], "fused": []})]
)
def test_a_damaged_file_is_refused(content, tmp_path):
    (tmp_path / "calibration.json").write_text(content)
    with pytest.raises(InvalidData, match="is not a calibration"):
        Calibration.load(tmp_path / "calibration.json")
    with pytest.raises(InvalidInput, match="cannot read"):
        Calibration.load(tmp_path / "none.json")


@pytest.mark.slow
def test_calibrated_costs_are_those_that_trials_alone_have():
    """Ten configs both ways: the median error is at most a tenth.

    Each config is calibrated and trained in turn, because a machine's speed drifts.
    """
    kinds = [
        {},
        {"batch_size": 16},
        {"batch_size": 64},
        {"optimizer": "momentum"},
        {"optimizer": "adam", "ema": 0.9},
        {"augmentation": "light"},
        {"augmentation": "medical"},
        {"mixing": "both"},
        {"gradient_clipping": 1.0, "dropout": 0.3},
        {"augmentation": "trivial", "label_smoothing": 0.1},
    ]
    errors = []
    for kind in kinds:
        chosen = search_space(["shufflenetv2_x0_5.imagenet"]).complete(kind)
        chosen = Config({**chosen, "backbone": "resnet10.scratch"})
        known = calibrate([(chosen, data())], CPU, None)
        result = run_trial(TrialSpec("made", "key", 0, chosen, 0, 6), data(), CPU, None)
        measured = statistics.median(row["train_seconds"] + row["eval_seconds"] for row in result.epochs[1:])
        errors.append(abs(sum(known.epoch_cost(chosen, 2, data())) / measured - 1))
    assert statistics.median(errors) <= 0.1, [round(error, 3) for error in errors]


def test_flops_of_a_net_small_enough_to_count_by_hand():
    """Three 3 x 3 convolutions of 1-8-16-32 channels at 32, 16 and 8 pixels a side, two operations a multiply-add."""
    forward = 2 * 9 * (1 * 8 * 32**2 + 8 * 16 * 16**2 + 16 * 32 * 8**2)
    assert epoch_flops(config(batch_size=32), data(n=100)) == (96 * 3 * forward, 128 * forward)


def test_frozen_stages_have_no_backward_pass_and_kept_ones_no_forward_pass_either():
    stages = [2 * 9 * n for n in (1 * 8 * 32**2, 8 * 16 * 16**2, 16 * 32 * 8**2)]
    frozen = {"freeze": 0.25, "batch_size": 32}
    again = Config({**tiny_config(**frozen, augmentation="light"), "backbone": "tiny_2d.scratch"})
    kept = Config({**tiny_config(**frozen), "backbone": "tiny_2d.scratch"})
    assert epoch_flops(again, data()) == (96 * (stages[0] + 3 * sum(stages[1:])), 128 * sum(stages[1:]))
    assert epoch_flops(kept, data())[0] == 96 * 3 * sum(stages[1:])
