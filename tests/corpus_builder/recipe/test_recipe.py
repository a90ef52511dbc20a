"""Each hyperparameter does what it says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from corpus_builder.backbones import backbone_names, backbone_spec
from corpus_builder.recipe import augment, build_classifier, build_optimizer, learning_rate_at, to_input
from corpus_builder.space import search_space
from metaquery.errors import InvalidConfig

SPACE = search_space(["tiny_2d.scratch", "shufflenetv2_x0_5.imagenet"])


def config(**values):
    return SPACE.complete(values)


class TestSpace:
    def test_freeze_is_active_only_for_pretrained_backbones(self):
        assert "freeze" not in config(backbone="tiny_2d.scratch")
        assert "freeze" in config(backbone="shufflenetv2_x0_5.imagenet")
        with pytest.raises(InvalidConfig, match="freeze is only active where backbone is shufflenetv2"):
            SPACE.config({**config(backbone="tiny_2d.scratch"), "freeze": 0.5})

    def test_a_space_of_scratch_backbones_has_no_freeze(self):
        assert "freeze" not in search_space(["tiny_2d.scratch"]).by_name

    def test_momentum_is_active_only_for_sgd(self):
        assert "momentum" not in config(optimizer="adamw")
        assert config(optimizer="sgd")["momentum"] == 0.9

    def test_the_grid_is_the_complete_factorial(self):
        # scratch: 2 optimizers x 3 rates; pretrained: x 2 fractions to freeze
        assert len(SPACE.grid()) == 6 + 12
        assert len(set(SPACE.grid())) == 18


class TestSchedule:
    def test_cosine_with_warm_up_by_hand(self):
        c = config(lr=0.01, schedule="cosine", warmup_epochs=1)
        rates = [learning_rate_at(c, step, 4, 5) for step in range(20)]
        assert rates[:4] == pytest.approx([0.0025, 0.005, 0.0075, 0.01])
        assert rates[4] == pytest.approx(0.01)
        assert rates[12] == pytest.approx(0.005)  # half of the 16 steps after warm-up
        assert rates[19] == pytest.approx(0.01 * 0.5 * (1 + math.cos(math.pi * 15 / 16)))

    def test_none_stays_at_the_peak(self):
        c = config(lr=0.01, schedule="none", warmup_epochs=0)
        assert {learning_rate_at(c, step, 4, 5) for step in range(20)} == {0.01}


class TestOptimizer:
    def model(self):
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))

    def test_weight_decay_spares_biases_and_norm_layers(self):
        model = self.model()
        decayed, spared = build_optimizer(model, config(weight_decay=0.1)).param_groups
        assert [p.shape for p in decayed["params"]] == [(4, 3)]
        assert decayed["weight_decay"] == 0.1
        assert spared["weight_decay"] == 0.0
        assert len(spared["params"]) == 3

    def test_sgd_has_nesterov_momentum_and_none_at_zero(self):
        group = build_optimizer(self.model(), config(optimizer="sgd", momentum=0.8)).param_groups[0]
        assert (group["momentum"], group["nesterov"]) == (0.8, True)
        assert not build_optimizer(self.model(), config(optimizer="sgd", momentum=0.0)).param_groups[0]["nesterov"]

    def test_frozen_parameters_are_not_optimised(self):
        model = build_classifier(backbone_spec("tiny_2d.scratch"), config(backbone="tiny_2d.scratch"), 2, None)
        model.backbone.freeze(1.0)
        trained = [p for group in build_optimizer(model, config()).param_groups for p in group["params"]]
        assert sum(p.numel() for p in trained) == 32 * 2 + 2


class TestImages:
    def images(self, channels=1, dims=(8, 8)):
        generator = torch.Generator().manual_seed(0)
        return torch.randint(0, 256, (5, channels, *dims), generator=generator, dtype=torch.uint8)

    @pytest.mark.parametrize("name", backbone_names())
    @pytest.mark.parametrize("channels", [1, 3])
    def test_every_backbone_gets_finite_input_of_its_channels(self, name, channels):
        spec = backbone_spec(name)
        images = self.images(channels, (8,) * spec.n_dims)
        images[0] = 0  # an empty image has no spread to divide by
        x = to_input(images.float(), spec)
        assert x.shape == (5, spec.in_channels, *images.shape[2:])
        assert torch.isfinite(x).all()

    def test_zscore_is_per_sample(self):
        x = to_input(self.images().float(), backbone_spec("tiny_2d.scratch"))
        assert x.mean(dim=(1, 2, 3)).abs().max() < 1e-5
        assert (x.std(dim=(1, 2, 3)) - 1).abs().max() < 1e-5

    def test_percentile_is_per_sample_and_ignores_the_brightest_hundredth(self):
        spec = backbone_spec("meshnet3d_30ch.brain18")
        ramp = torch.arange(101.0)  # its quantiles are its indices: 1 and 99
        images = torch.stack([ramp, 2 * ramp + 5]).view(2, 1, 101, 1, 1)
        x = to_input(images, spec).view(2, 101)
        assert torch.allclose(x[0], (ramp - 1) / 98, atol=1e-6)
        assert torch.allclose(x[1], x[0], atol=1e-6)
        images[:, :, 100] = 255  # one voxel in a hundred, as a bright artefact
        assert torch.allclose(to_input(images, spec).view(2, 101)[:, :100], x[:, :100], atol=1e-6)

    def test_percentile_of_an_image_with_few_bright_voxels_stays_in_the_unit_range(self):
        images = torch.zeros(2, 1, 10, 10, 10)
        images[0, 0, 4, 4, :5] = 200  # half a hundredth of the voxels: both quantiles are 0
        x = to_input(images, backbone_spec("meshnet3d_30ch.brain18"))
        assert x[0].max().item() == 1.0
        assert x[0].sum().item() == 5.0
        assert not x[1].any()

    def test_fixed_uses_the_statistics_and_channel_order_of_the_weights(self):
        images = self.images(3)
        imagenet = to_input(images.float(), backbone_spec("resnet20.cifar10"))
        assert imagenet[0, 1, 2, 3].item() == pytest.approx((images[0, 1, 2, 3].item() / 255 - 0.456) / 0.224, rel=1e-5)
        bgr = to_input(images.float(), backbone_spec("shufflenetv2_x0_5.imagenet"))
        assert torch.equal(bgr[:, 0], images[:, 2].float() / 255)

    def test_grey_is_repeated_and_colour_is_averaged(self):
        grey = self.images(1)
        assert torch.equal(
            to_input(grey.float(), backbone_spec("shufflenetv2_x0_5.imagenet"))[:, 2], grey[:, 0].float() / 255
        )
        colour = self.images(3).float()
        spec = backbone_spec("tiny_2d.scratch")
        assert torch.equal(to_input(colour, spec), to_input(colour.mean(dim=1, keepdim=True), spec))

    @pytest.mark.parametrize("dims", [(16, 16), (10, 10, 10)])
    def test_light_augmentation_moves_each_sample_its_own_way_and_stays_in_range(self, dims):
        generator = torch.Generator().manual_seed(3)
        one = torch.zeros(1, 1, *dims, dtype=torch.uint8)
        one[(0, 0, *(d // 2 for d in dims))] = 200
        augmented = augment(one.repeat(6, *[1] * (one.ndim - 1)), "light", generator)
        assert augmented.min() >= 0
        assert augmented.max() <= 255
        assert len({tuple(a.flatten().tolist()) for a in augmented}) == 6
        again = augment(one.repeat(6, *[1] * (one.ndim - 1)), "light", torch.Generator().manual_seed(3))
        assert torch.equal(augmented, again)

    def test_no_augmentation_changes_nothing(self):
        images = self.images()
        assert torch.equal(augment(images, "none", torch.Generator()), images.float())


def test_dropout_acts_in_training_only():
    model = build_classifier(
        backbone_spec("tiny_2d.scratch"), config(backbone="tiny_2d.scratch", dropout=0.5), 2, None
    ).eval()
    x = torch.randn(4, 1, 16, 16)
    assert torch.equal(model(x), model(x))
    model.head.train()
    assert not torch.equal(model(x), model(x))


def test_no_hyperparameter_is_called_like_a_column_it_would_be_joined_with():
    from metaquery.schema import TABLE_NAMES, table

    columns = {c.name for name in TABLE_NAMES for c in table(name).columns} - {"backbone"}  # backbone is a key
    assert not columns & set(SPACE.by_name)
