"""Where rounding decides: fused trials differ from single ones no more than single ones do in another kernel order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_recipe import tiny_config, tiny_data

import corpus_builder.train.activations as activations_module
import corpus_builder.train.evaluate as evaluate_module
import corpus_builder.train.fused as fused_module
import corpus_builder.train.trial as trial_module
from corpus_builder.train.fused import run_fused
from corpus_builder.train.records import EpochCost, TrialResult, TrialSpec
from corpus_builder.train.trial import run_trial
from metaquery.types import Status

CPU = torch.device("cpu")
KINDS = (
    {"lr": 1e-3},
    {"optimizer": "momentum", "lr": 0.01},
    {"mixing": "mixup"},
    {"lr": 0.01, "dropout": 0.3},
    {"optimizer": "momentum", "lr": 0.1},
    {"augmentation": "light"},
    {"optimizer": "sgd", "lr": 0.03},
    {"optimizer": "adam", "lr": 3e-3},
)
MARGIN = 2.0  # a median of so few trials is itself uncertain by about this factor


@pytest.fixture(params=["float32", "bfloat16"])
def precision(request, monkeypatch):
    """That of the CPU, and that of a GPU, in which the CPU computes too when asked to."""
    if request.param == "bfloat16":
        for module in (trial_module, fused_module, activations_module, evaluate_module):
            monkeypatch.setattr(module, "mixed_precision", lambda _device: torch.autocast("cpu", torch.bfloat16))
    return request.param


def test_fused_trials_stay_within_the_spread_of_kernel_orders(precision, monkeypatch):
    data = tiny_data(n=48, side=32)
    specs = [
        TrialSpec("made", "key", 0, tiny_config(batch_size=16, **kind), seed, 4) for seed, kind in enumerate(KINDS)
    ]

    def single() -> list[TrialResult]:
        return [run_trial(spec, data, CPU, None) for spec in specs]

    reference = single()
    torch._C._set_mkldnn_enabled(False)  # its context manager warns about kernels that are not used here
    try:
        other_kernels = single()
    finally:
        torch._C._set_mkldnn_enabled(True)
    build = trial_module.build_classifier
    with monkeypatch.context() as patch:
        patch.setattr(trial_module, "build_classifier", lambda *a: build(*a).to(memory_format=torch.channels_last))
        other_layout = single()
    fused = run_fused(specs, data, CPU, None, lambda _config, _epoch: EpochCost(1.0, 1.0))

    spread = max(difference(reference, other) for other in (other_kernels, other_layout))
    assert spread > 0
    assert 0 < difference(reference, fused) <= MARGIN * spread
    if precision == "bfloat16":
        assert spread > 1e-5  # that of float32 is a hundredth of it: the autocast was on


def difference(some: list[TrialResult], others: list[TrialResult]) -> float:
    """Median over trials and losses of the largest difference over the epochs."""
    largest = []
    for one, other in zip(some, others, strict=True):
        assert one.status is other.status is Status.COMPLETED
        for column in ("train_loss", "val_loss", "test_loss"):
            pairs = zip(one.epochs, other.epochs, strict=True)
            largest.append(max(abs(a[column] - b[column]) for a, b in pairs))
    return float(np.median(largest))
