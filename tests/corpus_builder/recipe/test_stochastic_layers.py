"""Dropout and stochastic normalisation, whose draws are handed to them."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_recipe import curve, normal, tiny_data, tiny_model, tiny_trial
from torch import nn
from torch.nn import functional as F

from corpus_builder.recipe import random_layers
from corpus_builder.recipe.stochastic import Dropout, StochasticNorm, with_stochastic_norm


def norm_with_history() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(3)
    with torch.no_grad():
        for number, value in enumerate((norm.weight, norm.bias, norm.running_mean)):
            value.copy_(normal(3, seed=number))
        norm.running_var.copy_(normal(3, seed=5).abs() + 0.5)
    return norm


class TestDropout:
    def test_the_mask_keeps_the_share_and_the_expectation(self):
        layer = Dropout(0.3, 200)
        mask = layer.draw(100, torch.Generator().manual_seed(0))
        assert mask.shape == (100, 200)
        assert mask.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
        assert (mask > 0).float().mean().item() == pytest.approx(0.7, abs=0.01)
        assert mask.mean().item() == pytest.approx(1.0, abs=0.015)

    def test_it_acts_in_training_only(self):
        layer, x = Dropout(0.5, 4), normal(2, 4)
        layer.mask = layer.draw(2, torch.Generator().manual_seed(0))
        assert torch.equal(layer(x), x * layer.mask)
        assert torch.equal(layer.eval()(x), x)


class TestStochasticNorm:
    def test_a_choice_of_ones_is_normalisation_by_the_moving_statistics_updated_first(self):
        plain, x = norm_with_history(), normal(4, 3, 5, 5, seed=9)
        layer = StochasticNorm(plain, 0.5)
        layer.choice = torch.ones(3)
        got = layer(x)
        plain(x)  # updates its statistics
        assert torch.allclose(got, plain.eval()(x), atol=1e-6)

    def test_a_choice_of_zeros_is_batch_norm_to_the_last_bit(self):
        plain, x = norm_with_history(), normal(4, 3, 5, 5, seed=9)
        layer = StochasticNorm(plain, 0.5)
        assert torch.equal(layer(x), plain(x))

    def test_each_channel_follows_its_own_coin(self):
        plain, x = norm_with_history(), normal(4, 3, 5, 5, seed=9)
        layer = StochasticNorm(plain, 0.5)
        layer.choice = torch.tensor([1.0, 0.0, 1.0])
        got, by_batch = layer(x), plain(x)
        moving = plain.eval()(x)
        assert torch.allclose(got[:, [0, 2]], moving[:, [0, 2]], atol=1e-6)
        assert torch.equal(got[:, 1], by_batch[:, 1])

    @pytest.mark.parametrize("choice", [0.0, 1.0])
    def test_the_moving_statistics_are_updated_as_in_batch_norm_whatever_the_choice(self, choice):
        plain = norm_with_history()
        layer = StochasticNorm(plain, 0.5)
        layer.choice = torch.full((3,), choice)
        for step in range(3):
            plain(normal(4, 3, 5, 5, seed=step))
            layer(normal(4, 3, 5, 5, seed=step))
        assert all(torch.equal(value, plain.state_dict()[name]) for name, value in layer.state_dict().items())

    def test_in_evaluation_it_is_batch_norm(self):
        plain, x = norm_with_history().eval(), normal(4, 3, 5, 5)
        assert torch.equal(StochasticNorm(plain, 0.5).eval()(x), plain(x))

    def test_no_gradient_flows_through_the_moving_statistics(self):
        layer, x = StochasticNorm(norm_with_history(), 0.5), normal(4, 3, 5, 5).requires_grad_()
        layer.choice = torch.ones(3)
        (gradient,) = torch.autograd.grad(layer(x).sum(), x)
        expected = (layer.weight / (layer.running_var + layer.eps).sqrt()).view(1, 3, 1, 1).expand_as(x)
        assert torch.allclose(gradient, expected, atol=1e-5)

    def test_the_coin_has_the_probability(self):
        layer, generator = StochasticNorm(nn.BatchNorm2d(400), 0.25), torch.Generator().manual_seed(0)
        found = torch.stack([layer.draw(8, generator) for _ in range(20)])
        assert set(found.unique().tolist()) == {0.0, 1.0}
        assert found.mean().item() == pytest.approx(0.25, abs=0.02)

    def test_every_norm_is_replaced_in_place_and_stays_what_it_was(self):
        net = nn.Sequential(nn.Conv2d(1, 3, 3), norm_with_history(), nn.Sequential(nn.ReLU(), norm_with_history()))
        twin, x = copy.deepcopy(net), normal(4, 1, 8, 8)
        with_stochastic_norm(net, 0.5)
        assert sum(isinstance(module, StochasticNorm) for module in net.modules()) == 2
        assert list(net.state_dict()) == list(twin.state_dict())
        assert torch.equal(net(x), twin(x))


class TestRandomLayers:
    def test_those_that_draw_are_found_by_the_buffer_they_fill(self):
        model = tiny_model(dropout=0.1, stochastic_norm=0.25, freeze=0.25)
        names = set(random_layers(model))
        assert names == {"head.0.mask", "backbone.stages.stage2.1.choice", "backbone.stages.stage3.1.choice"}
        assert names <= set(dict(model.named_buffers()))
        assert not names & set(model.state_dict())  # what was drawn is no state

    def test_frozen_stages_keep_their_batch_norm(self):
        stages = tiny_model(stochastic_norm=0.25, freeze=0.25).backbone.stages
        assert [type(stage[1]) for stage in stages.values()] == [nn.BatchNorm2d, StochasticNorm, StochasticNorm]

    def test_without_them_there_is_nothing_to_draw(self):
        assert random_layers(tiny_model()) == {}


def test_dropout_comes_before_the_head():
    model = tiny_model(dropout=0.5).train()
    model.backbone.eval()
    x = normal(4, 1, 16, 16)
    mask = random_layers(model)["head.0.mask"].draw(4, torch.Generator().manual_seed(1))
    model.head[0].mask = mask
    expected = F.linear(model.backbone(x) * mask, model.head[1].weight, model.head[1].bias)
    assert torch.allclose(model(x), expected, atol=1e-6)


@pytest.mark.parametrize("values", [{"dropout": 0.3}, {"stochastic_norm": 0.5}], ids=str)
def test_in_a_trial_it_changes_the_curve_and_the_same_seed_draws_the_same(values):
    data = tiny_data()
    result = tiny_trial(data, **values)
    assert result.error is None
    assert curve(result) == curve(tiny_trial(data, **values))
    assert all(ours != plain for ours, plain in zip(curve(result), curve(tiny_trial(data))))


def test_stochastic_norm_rests_with_its_stage():
    data, common = tiny_data(), {"linear_probing_epochs": 2}
    assert curve(tiny_trial(data, stochastic_norm=0.5, **common))[:2] == curve(tiny_trial(data, **common))[:2]
