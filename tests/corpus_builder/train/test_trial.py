"""One trial: equal to a loop written by hand, the same twice, and a status for everything that can go wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import corpus_builder.train.trial as trial_module
from corpus_builder.backbones import backbone_spec
from corpus_builder.recipe import Schedule, build_classifier, build_optimizer, set_rate, to_input
from corpus_builder.space import search_space
from corpus_builder.train.records import Part, TrialData, TrialSpec
from corpus_builder.train.trial import run_trial
from metaquery.metrics import METRICS, compute_all
from metaquery.space import Config
from metaquery.types import Status

CPU = torch.device("cpu")
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
CUDA = pytest.param(torch.device("cuda"), marks=[pytest.mark.gpu, NO_GPU])
SPACE = search_space(["tiny_2d.scratch"])


def make_data(n_dims=2, n_classes=2, n=48, side=12) -> TrialData:
    """Discs whose brightness tells the class, in noise."""
    rng = np.random.default_rng(0)

    def part(count):
        labels = np.arange(count) % n_classes
        images = rng.normal(60, 40, (count, 1, *[side] * n_dims))
        inner = (slice(None), slice(None), *[slice(side // 4, -side // 4)] * n_dims)
        images[inner] += 60.0 * labels.reshape(-1, *[1] * (n_dims + 1))
        return Part(np.clip(images, 0, 255).astype(np.uint8), labels.astype(np.int64))

    return TrialData(part(n), part(n // 2), part(n // 2), n_classes)


def spec(epochs=4, seed=0, time_limit=None, **values) -> TrialSpec:
    return TrialSpec("made", "key", 0, SPACE.complete(values), seed, epochs, time_limit)


def without_costs(result):
    return [{k: v for k, v in epoch.items() if not k.endswith("seconds")} for epoch in result.epochs]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_trial_equals_the_loop_written_by_hand(optimizer):
    """No dropout, no augmentation: what is left is seeding, data order, schedule, update and evaluation."""
    data, chosen = make_data(n_classes=3), spec(epochs=3, optimizer=optimizer, batch_size=16, label_smoothing=0.1)
    result = run_trial(chosen, data, CPU, None)
    assert result.status == Status.COMPLETED

    backbone = backbone_spec("tiny_2d.scratch")
    torch.manual_seed(0)
    model = build_classifier(backbone, chosen.config, 3, None)
    update = build_optimizer(model, chosen.config)
    schedule = Schedule(chosen.config, 3, 3)
    images, labels = torch.from_numpy(data.train.images), torch.from_numpy(data.train.labels)
    order = torch.Generator().manual_seed(0)
    for epoch in range(3):
        model.train()
        losses = []
        for step, batch in enumerate(torch.randperm(48, generator=order).split(16)):
            set_rate(update, schedule.rate(epoch * 3 + step))
            loss = F.cross_entropy(model(to_input(images[batch].float(), backbone)), labels[batch], label_smoothing=0.1)
            update.zero_grad()
            loss.backward()
            update.step()
            losses.append(loss.item())
        model.eval()
        with torch.no_grad():
            logits = model(to_input(torch.from_numpy(data.val.images).float(), backbone))
        y_prob = logits.softmax(dim=1).numpy()
        row = result.epochs[epoch]
        assert row["train_loss"] == pytest.approx(np.mean(losses), rel=1e-6)
        for name, value in compute_all(data.val.labels, y_prob.astype(np.float64)).items():
            assert row[f"val_{name}"] == pytest.approx(value, rel=1e-6), name
    assert np.array_equal(result.predictions["last"]["val"], y_prob)


@pytest.mark.parametrize("values", [{}, {"dropout": 0.3, "augmentation": "light", "optimizer": "sgd"}])
@pytest.mark.parametrize("device", [CPU, CUDA])
def test_the_same_seed_gives_the_same_curves_and_another_seed_others(values, device):
    data = make_data()
    first, again, other = (run_trial(spec(seed=s, **values), data, device, None) for s in (5, 5, 6))
    assert without_costs(first) == without_costs(again)
    for checkpoint, parts in first.predictions.items():
        assert all(np.array_equal(p, again.predictions[checkpoint][split]) for split, p in parts.items())
    assert without_costs(first) != without_costs(other)


def test_a_row_has_every_metric_and_checkpoints_are_those_of_the_format():
    result = run_trial(spec(epochs=10), make_data(), CPU, None)
    assert [row["epoch"] for row in result.epochs] == list(range(1, 11))
    for row in result.epochs:
        assert {f"{split}_{m}" for split in ("val", "test") for m in METRICS} <= set(row)
        assert row["train_seconds"] > 0
        assert row["eval_seconds"] > 0
    assert set(result.predictions) == {1, 3, 9, "best", "last"}
    best = max(result.epochs, key=lambda row: np.float32(row["val_auc"]))  # max keeps the first of equals
    best_values = compute_all(make_data().val.labels, result.predictions["best"]["val"].astype(np.float64))
    assert best_values["auc"] == pytest.approx(best["val_auc"])
    assert best_values["loss"] == pytest.approx(best["val_loss"], rel=1e-6)


def test_it_learns_what_can_be_learnt():
    result = run_trial(spec(epochs=12, lr=0.01, batch_size=16), make_data(), CPU, None)
    assert result.epochs[-1]["test_auc"] > 0.95
    assert result.epochs[-1]["train_loss"] < result.epochs[0]["train_loss"]


def test_three_dimensions_and_colour():
    for data, name in ((make_data(n_dims=3, side=8), "tiny_3d.scratch"), (colour(make_data()), "tiny_2d.scratch")):
        space = search_space([name])
        result = run_trial(TrialSpec("made", "key", 0, space.default(), 0, 2), data, CPU, None)
        assert (result.status, len(result.epochs)) == (Status.COMPLETED, 2)


def colour(data):
    return TrialData(*(Part(p.images.repeat(3, axis=1), p.labels) for p in (data.train, data.val, data.test)), 2)


class TestFailures:
    def test_a_loss_that_is_not_finite_is_diverged_and_the_finished_epochs_stay(self):
        good = spec(optimizer="sgd", warmup_epochs=0)
        wild = Config({**good.config, "lr": 1e30})
        result = run_trial(TrialSpec("made", "key", 0, wild, 0, 4), make_data(), CPU, None)
        assert result.status == Status.DIVERGED
        assert "epoch 1" in result.error
        assert result.epochs == []
        assert result.total_seconds > 0

    def test_over_the_time_limit_is_timed_out_after_a_whole_epoch(self):
        result = run_trial(spec(epochs=5, time_limit=1e-9), make_data(), CPU, None)
        assert result.status == Status.TIMED_OUT
        assert len(result.epochs) == 1
        assert "time limit" in result.error

    def test_an_exception_is_failed_with_its_message(self, tmp_path):
        space = search_space(["resnet20.cifar10"])
        result = run_trial(TrialSpec("made", "key", 0, space.default(), 0, 2), make_data(), CPU, tmp_path)
        assert result.status == Status.FAILED
        assert result.error.startswith("InvalidInput: weights of resnet20.cifar10 not found")

    @pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError("CUDA out of memory"), MemoryError("no memory")])
    def test_a_full_memory_is_out_of_memory(self, monkeypatch, error):
        def full(*_args):
            raise error

        monkeypatch.setattr(trial_module, "build_optimizer", full)
        result = run_trial(spec(), make_data(), CPU, None)
        assert result.status == Status.OUT_OF_MEMORY
        assert "memory" in result.error


def test_global_state_is_left_alone():
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    threads = torch.get_num_threads()
    run_trial(spec(epochs=1, dropout=0.2), make_data(), CPU, None)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == threads
