"""From uint8 images to network input, through frozen stages, kept or computed."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_recipe import NAME, curve, normal, tiny_config, tiny_data, tiny_trial

from corpus_builder.backbones import backbone_names, backbone_spec
from corpus_builder.recipe import Draw, to_input, training_input
from corpus_builder.recipe.augmentation import Transform
from corpus_builder.recipe.mixing import Mix
from corpus_builder.space import repeated_parts


def images(channels=1, dims=(8, 8)):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (5, channels, *dims), generator=generator, dtype=torch.uint8)


class TestNormalisation:
    @pytest.mark.parametrize("name", backbone_names())
    @pytest.mark.parametrize("channels", [1, 3])
    def test_every_backbone_gets_finite_input_of_its_channels(self, name, channels):
        spec = backbone_spec(name)
        batch = images(channels, (8,) * spec.n_dims)
        batch[0] = 0  # an empty image has no spread to divide by
        x = to_input(batch.float(), spec)
        assert x.shape == (5, spec.in_channels, *batch.shape[2:])
        assert torch.isfinite(x).all()

    def test_zscore_is_per_sample(self):
        x = to_input(images().float(), backbone_spec(NAME))
        assert x.mean(dim=(1, 2, 3)).abs().max() < 1e-5
        assert (x.std(dim=(1, 2, 3)) - 1).abs().max() < 1e-5

    @given(factor=st.floats(0.2, 1.0), offset=st.floats(0, 40))
    def test_zscore_does_not_see_linear_changes_of_intensity(self, factor, offset):
        x = images().float()
        spec = backbone_spec(NAME)
        assert torch.allclose(to_input(x * factor + offset, spec), to_input(x, spec), atol=1e-4)

    def test_percentile_is_per_sample_and_ignores_the_brightest_hundredth(self):
        spec = backbone_spec("meshnet3d_30ch.brain18")
        ramp = torch.arange(101.0)  # its quantiles are its indices: 1 and 99
        batch = torch.stack([ramp, 2 * ramp + 5]).view(2, 1, 101, 1, 1)
        x = to_input(batch, spec).view(2, 101)
        assert torch.allclose(x[0], (ramp - 1) / 98, atol=1e-6)
        assert torch.allclose(x[1], x[0], atol=1e-6)
        batch[:, :, 100] = 255  # one voxel in a hundred, as a bright artefact
        assert torch.allclose(to_input(batch, spec).view(2, 101)[:, :100], x[:, :100], atol=1e-6)

    def test_percentile_of_an_image_with_few_bright_voxels_stays_in_the_unit_range(self):
        batch = torch.zeros(2, 1, 10, 10, 10)
        batch[0, 0, 4, 4, :5] = 200  # half a hundredth of the voxels: both quantiles are 0
        x = to_input(batch, backbone_spec("meshnet3d_30ch.brain18"))
        assert x[0].max().item() == 1.0
        assert x[0].sum().item() == 5.0
        assert not x[1].any()

    def test_fixed_uses_the_statistics_and_channel_order_of_the_weights(self):
        batch = images(3)
        imagenet = to_input(batch.float(), backbone_spec("resnet20.cifar10"))
        assert imagenet[0, 1, 2, 3].item() == pytest.approx((batch[0, 1, 2, 3].item() / 255 - 0.456) / 0.224, rel=1e-5)
        bgr = to_input(batch.float(), backbone_spec("shufflenetv2_x0_5.imagenet"))
        assert torch.equal(bgr[:, 0], batch[:, 2].float() / 255)


class TestChannels:
    def test_grey_is_repeated_and_colour_is_averaged(self):
        grey = images(1)
        expected = grey[:, 0].float() / 255
        assert torch.equal(to_input(grey.float(), backbone_spec("shufflenetv2_x0_5.imagenet"))[:, 2], expected)
        colour = images(3).float()
        spec = backbone_spec(NAME)
        assert torch.equal(to_input(colour, spec), to_input(colour.mean(dim=1, keepdim=True), spec))

    def test_several_sequences_become_their_mean_in_every_channel(self):
        four = images(4).float()
        x = to_input(four, backbone_spec("shufflenetv2_x0_5.imagenet"))
        assert all(torch.equal(x[:, channel], four.mean(dim=1) / 255) for channel in range(3))


class TestTrainingInput:
    def test_images_are_transformed_normalised_and_then_mixed(self):
        batch, spec = images(), backbone_spec(NAME)
        flip = replace(Transform.neutral(5, 2), solarize=torch.full((5,), 100.0))
        mix = Mix(torch.tensor([1, 2, 3, 4, 0]), torch.full((1, 1), 0.3), 0.3)
        x = batch.float()
        plain = to_input(torch.where(x >= 100, 255 - x, x), spec)
        got = training_input(batch, Draw(flip, mix, {}), spec)
        assert torch.allclose(got, 0.3 * plain + 0.7 * plain[mix.partner], atol=1e-6)

    @pytest.mark.parametrize("draw", [None, Draw(None, None, {})])
    def test_without_draws_it_is_the_input_of_evaluation(self, draw):
        batch, spec = images(), backbone_spec(NAME)
        assert torch.equal(training_input(batch, draw, spec), to_input(batch.float(), spec))

    def test_a_concatenation_holds_every_parameter_of_its_parts(self):
        parts = [replace(Transform.neutral(2, 2), gamma=normal(2, seed=k)) for k in range(2)]
        together = Transform.cat(parts)
        assert all(len(getattr(together, field.name)) == 4 for field in fields(Transform))
        assert torch.equal(together.gamma, torch.cat([part.gamma for part in parts]))


@pytest.mark.parametrize("name", [name for name in backbone_names() if backbone_spec(name).parameters < 15e6])
def test_no_stage_overwrites_what_the_stage_before_it_gave(name):
    """Kept activations and DELTA look at the outputs of the stages after the next ones have run."""
    spec = backbone_spec(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = spec.build().eval()
    side = max(spec.min_size, 32 if spec.n_dims == 2 else 16)
    x = out = normal(1, spec.in_channels, *[side] * spec.n_dims)
    before = x.clone()
    expected = []
    with torch.no_grad():
        outputs, features = backbone.tail(x)
        assert torch.equal(x, before)
        for stage in backbone.stages.values():
            out = stage(out.clone())
            expected.append(out.clone())
    assert all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True))
    assert torch.equal(features, expected[-1].mean(dim=tuple(range(2, out.ndim))))


class TestKeptActivations:
    @pytest.mark.parametrize(
        "values",
        [
            {"freeze": 1.0},
            {"freeze": 0.5, "stochastic_norm": 0.25, "dropout": 0.2, "delta": 0.1},
            {"freeze": 0.25, "class_balance": "sampling", "ema": 0.9},
            {"freeze": 1.0, "augmentation": "light", "ema": 0.9},
            {"freeze": 0.5, "mixing": "both"},
        ],
        ids=str,
    )
    def test_they_give_the_curve_that_computing_them_again_gives(self, values):
        kept, again = (curve(tiny_trial(tiny_data(), repeated=parts, **values)) for parts in (None, "none"))
        assert [pytest.approx(row, abs=1e-5) for row in again] == kept

    def test_later_epochs_are_charged_less_and_the_first_one_the_frozen_stages(self):
        data = tiny_data(n=256, side=48)
        kept, again, shared = (
            tiny_trial(data, repeated=parts, freeze=1.0, batch_size=64, epochs=4) for parts in (None, "none", None)
        )
        seconds = [sorted(row["train_seconds"] for row in result.epochs[1:])[1] for result in (kept, again)]
        assert seconds[0] < 0.5 * seconds[1]
        for result in (kept, shared):  # one found them, and is charged what they took the other
            assert result.epochs[0]["train_seconds"] > 2 * result.epochs[1]["train_seconds"]

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({"freeze": 0.25}, "all"),
            ({"freeze": 0.0}, "none"),
            ({"freeze": 1.0, "augmentation": "light"}, "evaluated"),
            ({"freeze": 1.0, "mixing": "mixup"}, "evaluated"),
        ],
    )
    def test_they_are_kept_only_where_every_epoch_shows_the_same_images(self, values, expected):
        assert repeated_parts(tiny_config(**values)) == expected

    def test_they_do_not_hide_augmentation(self):
        augmented = tiny_trial(tiny_data(), freeze=1.0, augmentation="light")
        assert curve(augmented) != curve(tiny_trial(tiny_data(), freeze=1.0))

    def test_parts_that_one_trial_left_out_are_kept_for_the_next(self):
        data = tiny_data(n=64, side=32)
        augmented, plain = (tiny_trial(data, freeze=1.0, augmentation=kind) for kind in ("light", "none"))
        assert curve(plain) == curve(tiny_trial(tiny_data(n=64, side=32), freeze=1.0))
        seconds = [result.epochs[0]["eval_seconds"] for result in (augmented, plain)]
        assert min(seconds) > 0
        assert plain.total_seconds >= seconds[1]  # with what the other spent on its behalf
