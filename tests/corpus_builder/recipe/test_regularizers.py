"""L2-SP, batch spectral shrinkage and DELTA, against closed forms and loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_recipe import curve, normal, tiny_config, tiny_data, tiny_model, tiny_trial
from torch import nn
from torch.nn import functional as F

from corpus_builder.backbones.stages import StagedBackbone
from corpus_builder.recipe import Objective, build_optimizer
from corpus_builder.recipe.mixing import Mix
from corpus_builder.recipe.regularizers import bss, channel_attention, delta, l2_sp

LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 2, 1])


class TestL2SP:
    def test_the_gradient_is_strength_times_the_distance_to_the_start(self):
        start = {"a": normal(3, 2), "b": normal(4, seed=1)}
        weights = {name: (value + normal(*value.shape, seed=9)).requires_grad_() for name, value in start.items()}
        loss = l2_sp(weights, start, 0.3)
        assert loss.item() == pytest.approx(0.15 * sum(((weights[n] - start[n]) ** 2).sum().item() for n in start))
        for name, gradient in zip(weights, torch.autograd.grad(loss, list(weights.values()))):
            assert torch.allclose(gradient, 0.3 * (weights[name] - start[name]), atol=1e-6)

    def test_it_takes_the_place_of_weight_decay_in_the_backbone_and_not_in_the_head(self):
        model = tiny_model()
        groups = build_optimizer(model, tiny_config(l2_sp=0.1, weight_decay=0.05)).param_groups
        decay_of = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
        assert {decay_of[id(p)] for p in model.backbone.parameters()} == {0.0}
        assert decay_of[id(model.head[1].weight)] == 0.05


class TestBSS:
    @given(n=st.integers(1, 7), d=st.integers(1, 7), seed=st.integers(0, 1000))
    def test_it_is_the_square_of_the_smallest_singular_value(self, n, d, seed):
        features = normal(n, d, seed=seed).double()
        torch.set_default_dtype(torch.float64)
        try:
            ours = bss(features, 0.5).item()
        finally:
            torch.set_default_dtype(torch.float32)
        assert ours == pytest.approx(0.5 * torch.linalg.svdvals(features)[-1].item() ** 2, abs=1e-9)

    @pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
    def test_so_is_its_gradient(self, shape):
        features = normal(*shape).requires_grad_()
        (gradient,) = torch.autograd.grad(bss(features, 1.0), features)
        (expected,) = torch.autograd.grad(torch.linalg.svdvals(features)[-1] ** 2, features)
        assert torch.allclose(gradient, expected, atol=1e-4)

    def test_features_that_span_too_little_give_a_finite_gradient(self):
        features = torch.zeros(6, 4).requires_grad_()
        (gradient,) = torch.autograd.grad(bss(features, 1.0), features)
        assert not gradient.any()

    def test_in_half_precision(self):
        """Products are taken in full precision: a small singular value would drown in a large one's rounding."""
        features = (8 + normal(5, 9)).bfloat16()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = bss(features, 1.0).item()
        assert found == pytest.approx(torch.linalg.svdvals(features.double())[-1].item() ** 2, rel=1e-2)


class TestDelta:
    def test_by_a_loop(self):
        outputs = [normal(4, 3, 5, 6), normal(4, 2, 3, 2, 2, seed=1)]
        source = [normal(4, 3, 5, 6, seed=2), normal(4, 2, 3, 2, 2, seed=3)]
        attention = [torch.tensor([0.5, 2.0, 0.5]), torch.tensor([0.2, 1.8])]
        expected = 0.0
        for output, reference, weights in zip(outputs, source, attention):
            for channel, weight in enumerate(weights.tolist()):
                difference = output[:, channel] - reference[:, channel]
                expected += 0.1 / 2 * weight * difference.pow(2).sum().item() / difference.numel()
        assert delta(outputs, source, attention, 0.1).item() == pytest.approx(expected, rel=1e-5)


class ThreeChannels(StagedBackbone):
    """One stage whose first channel is the input, its second zero, and its third noise that the labels do not know."""

    def __init__(self):
        super().__init__({"only": nn.Conv2d(2, 3, 1, bias=False)}, feature_dim=3)
        self.stages["only"].weight.data = torch.tensor([[1.0, 0], [0, 0], [0, 1]]).view(3, 2, 1, 1)


class TestChannelAttention:
    def images(self, n=24):
        labels = torch.arange(n) % 2
        told = (4.0 * labels - 2).view(n, 1, 1, 1) + 0.1 * normal(n, 1, 4, 4)
        return torch.cat([told, normal(n, 1, 4, 4, seed=1)], dim=1), labels

    def test_a_channel_that_the_head_relies_on_weighs_more_than_a_dead_one_and_than_noise(self):
        (weights,) = channel_attention(ThreeChannels().eval(), *self.images(), 2)
        told, dead, noise = weights.tolist()
        assert told > 1.3 * dead
        assert told > 1.3 * noise
        assert told + dead + noise == pytest.approx(3.0)

    def test_by_switching_channels_off_in_small_steps(self):
        """The definition: how fast the loss of the ridge head grows as a channel fades, in a net without batches."""
        backbone = tiny_model().backbone.eval()
        x, labels = normal(11, 1, 16, 16).double(), torch.arange(11) % 3
        torch.set_default_dtype(torch.float64)
        try:
            backbone = backbone.double()
            weights = channel_attention(backbone, x, labels, 3)
            with torch.no_grad():
                stages = list(backbone.stages.values())
                features = backbone.tail(x)[1]
                centred = features - features.mean(dim=0)
                gram = centred.T @ centred + torch.eye(32)
                head = torch.linalg.solve(gram, centred.T @ F.one_hot(labels, 3).double())

                def loss(stage, channel, factor):
                    out = x
                    for number, part in enumerate(stages):
                        out = part(out)
                        if number == stage:
                            out[:, channel] *= factor
                    return F.cross_entropy((out.mean(dim=(2, 3)) - features.mean(dim=0)) @ head, labels)

                for stage, found in enumerate(weights):
                    growth = [(loss(stage, c, 1 - 1e-6) - loss(stage, c, 1)) / 1e-6 for c in range(len(found))]
                    expected = torch.stack(growth).softmax(dim=0) * len(growth)
                    assert torch.allclose(found, expected, atol=1e-4)
        finally:
            torch.set_default_dtype(torch.float32)

    def test_frozen_stages_have_none_and_the_backbone_is_left_as_it_was(self):
        model = tiny_model(freeze=0.5)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        seen = model.backbone.trunk(normal(8, 1, 16, 16))
        weights = channel_attention(model.backbone.eval(), seen, LABELS, 3)
        assert [len(w) for w in weights] == [32]
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())


class TestObjective:
    def loss(self, mix=None, model=None, **values):
        model = model or tiny_model(**values).eval()
        x = normal(8, 1, 16, 16)
        objective = Objective(tiny_config(**values), model, LABELS, model.backbone.trunk(x))
        seen = model.backbone.trunk(x)
        with torch.no_grad():
            for p in model.backbone.parameters():
                p.add_(0.01 * p.requires_grad)
        return objective(model, seen, model.tail(seen), LABELS, mix), model, seen

    def test_the_penalties_are_added_to_the_loss(self):
        plain, model, seen = self.loss()
        assert torch.equal(plain, F.cross_entropy(model.tail(seen).logits, LABELS))
        count = sum(p.numel() for p in model.backbone.parameters())
        assert (self.loss(l2_sp=0.1)[0] - plain).item() == pytest.approx(0.05 * count * 0.01**2, rel=1e-2)
        smallest = torch.linalg.svdvals(model.tail(seen).features)[-1].item() ** 2
        assert (self.loss(bss=0.1)[0] - plain).item() == pytest.approx(0.1 * smallest, rel=1e-2)
        assert (self.loss(delta=0.1)[0] - plain).item() > 1e-6

    def test_l2_sp_leaves_frozen_stages_out(self):
        frozen, model, _ = self.loss(l2_sp=0.1, freeze=0.5)
        count = sum(p.numel() for p in model.backbone.parameters() if p.requires_grad)
        plain, _, _ = self.loss(freeze=0.5)
        assert (frozen - plain).item() == pytest.approx(0.05 * count * 0.01**2, rel=1e-2)

    def test_delta_is_nothing_as_long_as_the_backbone_rests(self):
        model = tiny_model().eval()
        model.backbone.rest(True)
        assert torch.equal(self.loss(delta=0.1, model=model)[0], F.cross_entropy(model(normal(8, 1, 16, 16)), LABELS))

    def test_labels_are_mixed_as_the_images_are(self):
        mix = Mix(torch.arange(7, -1, -1), torch.full((1, 1), 0.3), 0.3)
        loss, model, seen = self.loss(mix)
        logits = model.tail(seen).logits
        expected = 0.3 * F.cross_entropy(logits, LABELS) + 0.7 * F.cross_entropy(logits, LABELS.flip(0))
        assert torch.allclose(loss, expected, atol=1e-6)

    @pytest.mark.parametrize("freeze", [0.0, 0.5])
    def test_in_mixed_precision_every_penalty_is_finite_and_about_the_same(self, freeze):
        values = {"l2_sp": 0.1, "bss": 0.1, "delta": 0.1, "freeze": freeze}
        expected = self.loss(**values)[0].item()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, _, _ = self.loss(**values)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("name", ["l2_sp", "bss", "delta"])
def test_in_a_trial_it_changes_the_curve_after_probing(name):
    data, common = tiny_data(), {"linear_probing_epochs": 1, "epochs": 3}
    result, plain = tiny_trial(data, **{name: 0.1}, **common), tiny_trial(data, **common)
    assert result.error is None
    assert curve(result)[2] != curve(plain)[2]
    if name != "bss":  # it looks at the features, also of a backbone that rests
        assert curve(result)[0] == curve(plain)[0]
