"""Fused trials are the trials: the same weights, buffers and curves as each has alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tiny_recipe import tiny_config

import corpus_builder.train.fused as fused_module
import corpus_builder.train.trial as trial_module
from corpus_builder.backbones import backbone_names, backbone_spec
from corpus_builder.train.fused import FusedRun, can_fuse, fusion_key, run_fused
from corpus_builder.train.records import EpochCost, Part, TrialData, TrialResult, TrialSpec
from corpus_builder.train.trial import run_trial
from metaquery.space import Config
from metaquery.types import Status

CPU = torch.device("cpu")
ALL_KINDS = (
    {},
    {"optimizer": "momentum", "lr": 0.01, "mixing": "mixup"},
    {"dropout": 0.4, "label_smoothing": 0.1, "augmentation": "medical"},
    {"optimizer": "adam", "weight_decay": 0.01, "class_balance": "weighting", "ema": 0.9},
    {"optimizer": "sgd", "l2_sp": 0.1, "gradient_clipping": 1.0, "schedule": "step", "decay_epochs": 3},
    {"bss": 0.1, "mixing": "both", "mixing_probability": 0.5, "schedule": "plateau", "patience": 1},
    {"delta": 0.1, "layer_decay": 0.75, "class_balance": "sampling", "augmentation": "trivial"},
    {"stochastic_norm": 0.5, "linear_probing_epochs": 1, "augmentation": "light"},
)


@pytest.fixture(autouse=True)
def double():
    """Both ways in double precision: what differs then is an error and not rounding."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def data_for(name: str, n: int = 16) -> TrialData:
    spec = backbone_spec(name)
    size = (max(32 if spec.n_dims == 2 else 8, spec.min_size),) * spec.n_dims
    rng = np.random.default_rng(0)

    def part(count: int) -> Part:
        labels = np.arange(count) % 3
        images = rng.integers(0, 120, (count, 1, *size)).astype(np.uint8)
        images[:, :, ::2] += (labels * 40).astype(np.uint8).reshape(-1, *[1] * (images.ndim - 1))
        return Part(images, labels)

    return TrialData(part(n), part(9), part(9), 3, (-1, -2), True)


def specs_of(name: str, kinds, epochs: int = 2, batch_size: int = 8, limit: float | None = None) -> list[TrialSpec]:
    configs = [Config({**tiny_config(batch_size=batch_size, **kind), "backbone": name}) for kind in kinds]
    return [TrialSpec("made", "key", 0, config, seed, epochs, limit) for seed, config in enumerate(configs)]


def fuse(specs, data, width=None, cost=lambda config, epoch: EpochCost(2.0, 1.0)) -> tuple[FusedRun, list[TrialResult]]:
    results = [TrialResult() for _ in specs]
    run = FusedRun(specs, results, data, CPU, None, cost, width or len(specs))
    run.train()
    return run, results


def alone(spec, data, monkeypatch):
    """The result of the single trainer, and the model that it trained."""
    built = []
    build = trial_module.build_classifier
    with monkeypatch.context() as patch:
        patch.setattr(trial_module, "build_classifier", lambda *a: built.append(build(*a)) or built[0])
        result = run_trial(spec, data, CPU, None)
    assert result.status is Status.COMPLETED, result.error
    return result, built[0]


def assert_equal(run: FusedRun, row: int, fused: TrialResult, single: TrialResult, model, rtol=1e-9) -> None:
    assert (fused.status, fused.error) == (single.status, single.error)
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, stacked in (*run.model.weights.items(), *run.model.buffers.items()):
        kind = name.rpartition(".")[2]
        if kind not in ("mask", "choice", "active"):  # what was drawn last belongs to no trial
            assert torch.allclose(stacked[row].double(), state[name].double(), rtol=rtol, atol=rtol), name
    for ours, theirs in zip(fused.epochs, single.epochs, strict=True):
        for column in theirs:
            if not column.endswith("seconds"):
                assert ours[column] == pytest.approx(theirs[column], rel=rtol, abs=rtol), column
    assert fused.predictions.keys() == single.predictions.keys()


def assert_fused_as_alone(specs, data, monkeypatch) -> FusedRun:
    """All trials of `specs` are in one stack what each is alone; the stack."""
    run, results = fuse(specs, data)
    for row, spec in enumerate(specs):
        assert_equal(run, row, results[row], *alone(spec, data, monkeypatch))
    return run


@pytest.fixture
def scratch(monkeypatch):
    """Every backbone from random weights: no file is needed, and a seed stands for one."""
    for module in (trial_module, fused_module):
        monkeypatch.setattr(
            module, "backbone_spec", lambda name: dataclasses.replace(backbone_spec(name), weights=None)
        )


@pytest.fixture
def pretrained(monkeypatch):
    """Backbones that start alike whatever the seed, as those with a file do; only the head is drawn."""

    def same_backbone(build):
        def built(spec, *rest):
            model = build(spec, *rest)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(7)
                model.backbone.load_state_dict(spec.build().state_dict())
            return model

        return built

    for module in (trial_module, fused_module):
        monkeypatch.setattr(module, "build_classifier", same_backbone(module.build_classifier))


def _smallest_of_each_family() -> list[str]:
    smallest: dict[tuple[str, int], str] = {}
    for name in backbone_names():
        spec = backbone_spec(name)
        key = spec.family, spec.n_dims
        if key not in smallest or spec.parameters < backbone_spec(smallest[key]).parameters:
            smallest[key] = name
    return sorted(smallest.values())


SMALLEST = _smallest_of_each_family()
LARGE = [name for name in SMALLEST if backbone_spec(name).parameters >= 5e6]  # few of them fit into a CPU's memory
SMALL = [name for name in SMALLEST if name not in LARGE]


def steady(kinds):
    """`kinds` without what makes a visible step of a rounding error: Adam of a gradient that is zero, BSS of a singular
    value that is."""
    return [{**kind, "optimizer": "momentum", "bss": 0.0} for kind in kinds]


@pytest.mark.parametrize("name", SMALL)
def test_every_family_trains_fused_as_alone(name, scratch, monkeypatch):
    specs = specs_of(name, steady(({"mixing": "mixup"}, {"dropout": 0.4})), epochs=1)
    assert_fused_as_alone(specs, data_for(name, n=8), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("name", SMALL)
def test_any_number_of_every_family_trains_fused_as_alone(name, count, scratch, pretrained, monkeypatch):
    # One step: after more, on so few positions, a deep net that starts one unit in the last place away ends elsewhere.
    assert_fused_as_alone(specs_of(name, steady(ALL_KINDS[-count:]), epochs=1), data_for(name, n=8), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_two_of_every_large_family_train_fused_as_alone(name, scratch, monkeypatch):
    kinds = steady(({"mixing": "mixup"}, {"dropout": 0.4}))
    if backbone_spec(name).build_sized is not None:  # of which only the heads can be trained together
        kinds = [{**kind, "freeze": 1.0} for kind in kinds]
    assert_fused_as_alone(specs_of(name, kinds, epochs=1), data_for(name, n=8), monkeypatch)


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("name", ["tiny_2d.scratch", "tiny_3d.scratch"])
def test_every_part_of_the_recipe_is_the_same_fused(name, count, pretrained, monkeypatch):
    assert_fused_as_alone(specs_of(name, ALL_KINDS[:count], epochs=3), data_for(name, n=32), monkeypatch)


@pytest.mark.parametrize(
    "kinds", [({"freeze": 0.25}, {"freeze": 0.25, "delta": 0.1}), ({"freeze": 1.0}, {"freeze": 1.0, "lr": 0.1})]
)
@pytest.mark.parametrize("mixing", ["none", "mixup"])
def test_frozen_stages_are_shared_and_kept_where_they_can_be(kinds, mixing, pretrained, monkeypatch):
    data = data_for("tiny_2d.scratch", n=32)
    specs = specs_of("tiny_2d.scratch", [{**kind, "mixing": mixing} for kind in kinds], epochs=3)
    run = assert_fused_as_alone(specs, data, monkeypatch)
    assert (run.train_part.kept is not None) == (mixing == "none")


def test_the_width_of_a_pass_changes_nothing(monkeypatch):
    data = data_for("tiny_2d.scratch")
    specs = specs_of("tiny_2d.scratch", ALL_KINDS)
    whole, _ = fuse(specs, data)
    parts, _ = fuse(specs, data, width=3)
    for name, value in whole.model.weights.items():
        assert torch.allclose(value, parts.model.weights[name], rtol=1e-9, atol=1e-9), name


def test_where_memory_is_short_the_width_halves_and_the_step_is_repeated(monkeypatch):
    """The third pass fails after the forward pass, when BatchNorm's statistics are already updated."""
    data = data_for("tiny_2d.scratch")
    specs = specs_of("tiny_2d.scratch", ALL_KINDS[:5])
    expected, _ = fuse(specs, data)
    calls, grad = [], torch.autograd.grad

    def short_of_memory(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return grad(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", short_of_memory)
    run, results = fuse(specs, data)
    assert run.width == 3
    assert {result.status for result in results} == {Status.COMPLETED}
    for name, value in (*expected.model.weights.items(), *expected.model.buffers.items()):
        if not name.endswith("mask"):
            assert torch.allclose(value, run.model.state()[name], rtol=1e-9, atol=1e-9), name


def test_one_that_does_not_fit_alone_is_out_of_memory(monkeypatch):
    def never(*_args, **_kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.autograd, "grad", never)
    results = run_fused(
        specs_of("tiny_2d.scratch", ALL_KINDS[:2]),
        data_for("tiny_2d.scratch"),
        CPU,
        None,
        lambda config, epoch: EpochCost(1.0, 1.0),
    )
    assert [result.status for result in results] == [Status.OUT_OF_MEMORY] * 2
    assert all("out of memory" in result.error for result in results)


def test_one_that_diverges_leaves_without_touching_the_others(monkeypatch):
    data = data_for("tiny_2d.scratch", n=32)
    specs = specs_of("tiny_2d.scratch", [{}, {"optimizer": "sgd", "warmup_epochs": 0}, {"ema": 0.9}], epochs=3)
    wild = dataclasses.replace(specs[1], config=Config({**specs[1].config, "lr": 1e200}))
    run, results = fuse([specs[0], wild, specs[2]], data)
    assert results[1].status is Status.DIVERGED
    assert "epoch 1" in results[1].error
    assert results[1].epochs == []
    for row, place in enumerate((0, 2)):
        assert_equal(run, row, results[place], *alone(specs[place], data, monkeypatch))


def test_costs_are_those_of_the_calibration_and_a_trial_over_its_limit_ends():
    specs = specs_of("tiny_2d.scratch", [{}, {"lr": 0.01}], epochs=4, limit=7.0)
    results = run_fused(
        specs,
        data_for("tiny_2d.scratch"),
        CPU,
        None,
        lambda config, epoch: EpochCost(2.0, 1.0) if config["lr"] == 0.01 else EpochCost(0.5, 0.25),
    )
    assert [(r.status, len(r.epochs), r.total_seconds) for r in results] == [
        (Status.COMPLETED, 4, 3.0),
        (Status.TIMED_OUT, 3, 9.0),
    ]
    assert {(r.engine, r.fused_width, r.cost_source) for r in results} == {("fused", 2, "calibrated")}
    assert results[1].epochs[0]["train_seconds"] == 2.0


def test_what_can_be_fused():
    one, other = specs_of("tiny_2d.scratch", [{}, {"lr": 0.01, "augmentation": "light"}])
    assert fusion_key(one.config) == fusion_key(other.config)
    assert can_fuse(one.config)
    smaller = specs_of("tiny_2d.scratch", [{}], batch_size=16)[0]
    assert fusion_key(one.config) != fusion_key(smaller.config)
