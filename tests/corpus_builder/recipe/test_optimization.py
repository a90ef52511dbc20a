"""Update rules, learning rates over time and by stage, clipping, freezing and probing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_recipe import NAME, curve, normal, tiny_config, tiny_data, tiny_model, tiny_trial
from torch import nn
from torch.nn import functional as F

from corpus_builder.backbones import backbone_spec
from corpus_builder.recipe import Schedule, build_optimizer, set_rate, to_input
from corpus_builder.recipe.optimization import rate_factors

LR, DECAY = 0.01, 0.05


def rates(epochs, steps, losses=None, **values):
    schedule = Schedule(tiny_config(**values), steps, epochs)
    found = []
    for epoch in range(epochs):
        found += [schedule.rate(epoch * steps + step) for step in range(steps)]
        schedule.end_epoch(losses[epoch] if losses else 1.0)
    return found


class TestSchedule:
    def test_cosine_with_warm_up_by_hand(self):
        found = rates(5, 4, lr=0.01, schedule="cosine", warmup_epochs=1)
        assert found[:5] == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01])
        assert found[12] == pytest.approx(0.005)  # half of the 16 steps after warm-up
        assert found[19] == pytest.approx(0.01 * 0.5 * (1 + math.cos(math.pi * 15 / 16)))

    def test_none_stays_at_the_peak(self):
        assert set(rates(5, 4, lr=0.01, schedule="none", warmup_epochs=0)) == {0.01}

    def test_step_counts_epochs_from_the_end_of_warm_up(self):
        found = rates(9, 2, lr=0.08, schedule="step", decay_epochs=3, decay_rate=0.5, warmup_epochs=2)
        assert found == pytest.approx([0.02, 0.04, 0.06, 0.08] + [0.08] * 6 + [0.04] * 6 + [0.02] * 2)

    def test_plateau_by_hand(self):
        losses = [1.0, 0.9, 0.9, 0.95, 0.9, 0.8, None, 0.8, 0.7]
        found = rates(9, 1, losses, lr=0.1, schedule="plateau", patience=2, decay_rate=0.1, warmup_epochs=0)
        # three epochs without a better loss than 0.9 end with the fifth; then two, which are tolerated
        assert found == pytest.approx([0.1] * 5 + [0.01] * 4)

    def test_only_plateau_listens_to_the_loss(self):
        assert rates(6, 1, [1.0] * 6, schedule="none") == rates(6, 1, [6.0, 5, 4, 3, 2, 1], schedule="none")

    @given(
        kind=st.sampled_from(["none", "cosine", "step", "plateau"]),
        warmup=st.integers(0, 5),
        steps=st.integers(1, 7),
        epochs=st.integers(1, 27),
    )
    def test_rates_rise_to_the_peak_in_warm_up_and_never_after(self, kind, warmup, steps, epochs):
        found = rates(epochs, steps, lr=0.01, schedule=kind, warmup_epochs=warmup)
        start = min(warmup * steps, len(found))
        assert all(0 < rate <= 0.01 * (1 + 1e-12) for rate in found)
        assert found[:start] == pytest.approx([0.01 * (k + 1) / (warmup * steps) for k in range(start)])
        assert all(a >= b for a, b in zip(found[start:], found[start + 1 :]))


class TestOptimizer:
    def by_hand(self, optimizer, weights, gradients):
        """Three updates of `weights` by the textbook."""
        first = second = torch.zeros_like(weights)
        for t, gradient in enumerate(gradients, start=1):
            pulled = gradient if optimizer == "adamw" else gradient + DECAY * weights
            if optimizer == "adamw":
                weights = weights - LR * DECAY * weights
            if optimizer == "sgd":
                weights = weights - LR * pulled
            elif optimizer == "momentum":
                first = 0.8 * first + pulled
                weights = weights - LR * (pulled + 0.8 * first)  # Nesterov
            else:
                first, second = 0.95 * first + 0.05 * pulled, 0.99 * second + 0.01 * pulled**2
                corrected = (second / (1 - 0.99**t)).sqrt() + 1e-8
                weights = weights - LR * first / (1 - 0.95**t) / corrected
        return weights

    @pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw"])
    def test_three_updates_by_hand(self, optimizer):
        model = tiny_model()
        config = tiny_config(optimizer=optimizer, lr=LR, weight_decay=DECAY, momentum=0.8, beta1=0.95, beta2=0.99)
        update, weight = build_optimizer(model, config), model.head[1].weight
        gradients = [normal(*weight.shape, seed=k) for k in range(3)]
        expected = self.by_hand(optimizer, weight.detach().clone(), gradients)
        for gradient in gradients:
            weight.grad = gradient.clone()
            update.step()
        assert torch.allclose(weight, expected, atol=1e-6)

    def test_weight_decay_spares_biases_and_norm_layers(self):
        model = tiny_model()
        decayed = {
            id(p)
            for group in build_optimizer(model, tiny_config(weight_decay=0.1)).param_groups
            if group["weight_decay"]
            for p in group["params"]
        }
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                expected = name == "weight" and isinstance(module, nn.Conv2d | nn.Linear)
                assert (id(parameter) in decayed) == expected

    def test_every_parameter_is_in_one_group_and_frozen_ones_in_none(self):
        model = tiny_model(freeze=0.5)
        groups = build_optimizer(model, tiny_config(layer_decay=0.75)).param_groups
        found = [id(p) for group in groups for p in group["params"]]
        assert sorted(found) == sorted(id(p) for p in model.parameters() if p.requires_grad)
        assert all(id(p) not in found for p in model.backbone.stages["stage1"].parameters())

    def test_layer_decay_by_hand(self):
        model = tiny_model()
        factors = rate_factors(model, tiny_config(layer_decay=0.75))
        for name, factor in factors.items():
            power = {"stage3": 1, "stage2": 2, "stage1": 3}.get(name.split(".")[2] if "stages" in name else "", 0)
            assert factor == 0.75**power, name
        assert set(factors) == {name for name, _ in model.named_parameters()}
        update = build_optimizer(model, tiny_config(layer_decay=0.75))
        set_rate(update, 0.1)
        rate_of = {id(p): group["lr"] for group in update.param_groups for p in group["params"]}
        assert all(rate_of[id(p)] == pytest.approx(0.1 * factors[name]) for name, p in model.named_parameters())

    def test_frozen_stages_count_for_the_depth_of_layer_decay(self):
        factors = rate_factors(tiny_model(freeze=0.5), tiny_config(freeze=0.5, layer_decay=0.75))
        assert factors["backbone.stages.stage3.0.weight"] == 0.75


class TestFreezing:
    @pytest.mark.parametrize(("fraction", "frozen"), [(0.0, 0), (0.25, 1), (0.5, 2), (0.75, 2), (1.0, 3)])
    def test_the_first_stages_are_frozen_and_keep_their_statistics(self, fraction, frozen):
        model = tiny_model(freeze=fraction).train()
        before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
        model(normal(8, 1, 16, 16)).sum().backward()
        for number, (stage, part) in enumerate(model.backbone.stages.items()):
            assert all(p.requires_grad == (p.grad is not None) == (number >= frozen) for p in part.parameters())
            moved = not torch.equal(part[1].running_mean, before[f"stages.{stage}.1.running_mean"])
            assert moved == (number >= frozen)

    def test_resting_freezes_the_others_too_and_rising_gives_back_what_was_free(self):
        model = tiny_model(freeze=0.25).train()
        free = [p.requires_grad for p in model.parameters()]
        model.backbone.rest(True)
        before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
        model.train()  # as at the start of an epoch: it must not wake what rests
        model(normal(8, 1, 16, 16)).sum().backward()
        assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())
        assert all(p.grad is None for p in model.backbone.parameters())
        assert model.head[1].weight.grad is not None
        model.backbone.rest(False)
        assert [p.requires_grad for p in model.parameters()] == free
        assert [stage.training for stage in model.backbone.stages.values()] == [False, True, True]

    def test_probing_trains_the_head_alone_and_then_the_rest(self):
        data = tiny_data()
        probed, longer = (tiny_trial(data, epochs=4, linear_probing_epochs=n) for n in (2, 3))
        assert curve(probed)[:2] == curve(longer)[:2] == curve(tiny_trial(data, epochs=4, freeze=1.0))[:2]
        assert curve(probed)[2][0] != curve(longer)[2][0]


class TestClipping:
    def test_a_gradient_longer_than_the_norm_is_cut_and_a_shorter_one_is_not(self):
        data, common = tiny_data(n=8), {"optimizer": "sgd", "lr": 0.1, "batch_size": 8, "warmup_epochs": 0}
        plain, loose, tight = (tiny_trial(data, gradient_clipping=c, **common) for c in (0.0, 10.0, 1.0))
        assert curve(plain) == curve(loose)
        assert curve(plain)[0][0] == curve(tight)[0][0]  # the loss before any update
        assert curve(plain)[1] != curve(tight)[1]


def test_the_default_recipe_is_plain_adamw_with_a_cosine():
    """Everything that the defaults leave out, left out: five steps, to the last bit."""
    data = tiny_data(n=80)
    result = tiny_trial(data, epochs=1, batch_size=16, warmup_epochs=0)
    model, spec = tiny_model(n_classes=2), backbone_spec(NAME)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    update = torch.optim.AdamW([{"params": decayed, "weight_decay": 1e-4}, {"params": others, "weight_decay": 0.0}])
    images, labels = torch.from_numpy(data.train.images), torch.from_numpy(data.train.labels)
    losses = []
    model.train()
    for step, batch in enumerate(torch.randperm(80, generator=torch.Generator().manual_seed(0)).split(16)):
        for group in update.param_groups:
            group["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * step / 5))
        loss = F.cross_entropy(model(to_input(images[batch].float(), spec)), labels[batch])
        update.zero_grad()
        loss.backward()
        update.step()
        losses.append(loss.item())
    assert result.epochs[0]["train_loss"] == pytest.approx(np.mean(losses), rel=1e-7)
    model.eval()
    with torch.no_grad():
        y_prob = model(to_input(torch.from_numpy(data.val.images).float(), spec)).softmax(dim=1).numpy()
    assert np.array_equal(result.predictions["last"]["val"], y_prob)
