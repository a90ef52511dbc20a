"""What is drawn for every kind of augmentation, and what each operation does to an image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import convolve
from tiny_recipe import curve, normal, tiny_data, tiny_trial

from corpus_builder.recipe.augmentation import Legal, Transform, draw
from corpus_builder.recipe.transformation import apply

KINDS = ("light", "medical", "trivial")


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Whole intensities in [0, 255], smooth enough to be told apart."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator).float()


def change(x: torch.Tensor, **values: torch.Tensor | float) -> torch.Tensor:
    """`x` with every sample changed by the same `values`, the rest neutral."""
    neutral = Transform.neutral(len(x), x.ndim - 2)
    wide = {}
    for name, value in values.items():
        like = getattr(neutral, name)
        wide[name] = torch.as_tensor(value, dtype=like.dtype).expand(like.shape).clone()
    return apply(x, replace(neutral, **wide))


def drawn(kind, n=200, size=(12, 10), legal=None, seed=0) -> Transform:
    legal = legal or Legal(tuple(range(-len(size), 0)), bias_field=True)
    found = draw(kind, n, size, legal, torch.Generator().manual_seed(seed))
    assert found is not None
    return found


def same(a: Transform, b: Transform) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in Transform.__slots__)


def pixel(vector: list[float]) -> torch.Tensor:
    """The affine map that reads `vector` pixels further on."""
    d = len(vector)
    return torch.cat([torch.eye(d), torch.tensor(vector)[:, None]], dim=1)


def quarter(d: int) -> torch.Tensor:
    """The affine map of a quarter turn in the plane of the last two axes."""
    matrix = torch.eye(d, d + 1)
    matrix[-2:, d - 2 : d] = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    return matrix


class TestGeometry:
    @pytest.mark.parametrize("size", [(6, 9), (5, 6, 9)])
    def test_a_flip_along_each_axis_is_exact(self, size):
        x = images(3, 2, *size)
        for axis in range(len(size)):
            matrix = torch.eye(len(size), len(size) + 1)
            matrix[axis, axis] = -1
            assert torch.allclose(change(x, affine=matrix), x.flip(2 + axis), atol=1e-3)

    @pytest.mark.parametrize("size", [(6, 9), (5, 6, 9)])
    def test_a_shift_by_whole_pixels_moves_pixels_and_mirrors_at_the_border(self, size):
        x = images(2, 1, *size)
        for axis, length in enumerate(size):
            vector = [0.0] * len(size)
            vector[axis] = 2.0
            got = change(x, affine=pixel(vector))
            expected = x.index_select(2 + axis, torch.tensor([*range(2, length), length - 1, length - 2]))
            assert torch.allclose(got, expected, atol=1e-3)

    @pytest.mark.parametrize("size", [(7, 7), (8, 8), (3, 8, 8), (5, 7, 7)])
    def test_a_quarter_turn_is_that_of_numpy_in_every_slice(self, size):
        x = images(2, 1, *size)
        got = change(x, affine=quarter(len(size)))
        assert torch.allclose(got, torch.rot90(x, 1, (-2, -1)), atol=2e-3)

    @pytest.mark.parametrize("size", [(8, 20), (5, 8, 20)])
    def test_a_quarter_turn_does_not_shear_what_is_longer_than_wide(self, size):
        x = images(2, 1, *size)
        got = change(x, affine=quarter(len(size)))
        middle = x[..., 6:14]  # the square that the turn maps onto itself
        assert torch.allclose(got[..., 6:14], torch.rot90(middle, 1, (-2, -1)), atol=2e-3)

    @pytest.mark.parametrize("size", [(12, 30), (4, 12, 30), (40, 12, 12)])
    def test_a_drawn_rotation_keeps_lengths_and_angles_between_pixels(self, size):
        matrix = drawn("medical", size=size).affine[:, :, :-1]
        gram = matrix.transpose(1, 2) @ matrix
        scale = gram[:, 0, 0]
        assert torch.allclose(gram, scale[:, None, None] * torch.eye(len(size)), atol=1e-5)
        assert 1 / 1.1 - 1e-5 <= scale.sqrt().min() < scale.sqrt().max() <= 1.1 + 1e-5


class TestIntensity:
    def test_gamma_contrast_and_brightness_by_hand(self):
        x = images(3, 2, 6, 5)
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        assert torch.allclose(change(x, gamma=1.5), (x / 255) ** 1.5 * 255, atol=1e-3)
        assert torch.allclose(change(x, contrast=1.2), (mean + 1.2 * (x - mean)).clamp(0, 255), atol=1e-3)
        assert torch.allclose(change(x, brightness=1.3), (1.3 * x).clamp(0, 255), atol=1e-3)

    def test_saturation_and_sharpness_by_hand(self):
        x = images(2, 3, 6, 5)
        grey = x.mean(dim=1, keepdim=True)
        assert torch.allclose(change(x, saturation=0.3), grey + 0.3 * (x - grey), atol=1e-3)
        assert torch.allclose(change(x[:, :1], saturation=0.3), x[:, :1], atol=1e-3)
        for sample in (x, images(2, 1, 4, 5, 6)):
            d = sample.ndim - 2
            kernel = np.ones((3,) * d)
            kernel[(1,) * d] = 5  # SMOOTH of the Python Imaging Library, which TrivialAugment uses
            blurred = convolve(sample.numpy(), (kernel / kernel.sum())[None, None], mode="nearest")
            expected = np.clip(blurred + 1.5 * (sample.numpy() - blurred), 0, 255)
            assert np.allclose(change(sample, sharpness=1.5).numpy(), expected, atol=1e-2)

    def test_posterize_solarize_autocontrast_and_equalize_as_in_numpy(self):
        x = images(3, 2, 6, 5) * 0.5 + 20
        x[2, 1] = 40.0  # a constant channel
        whole = x.numpy()
        assert np.array_equal(change(x, bits=3.0).numpy(), whole.astype(np.uint8) & 0b11100000)
        assert np.array_equal(change(x, solarize=60.0).numpy(), np.where(whole >= 60, 255 - whole, whole))
        stretched, equalized = change(x, autocontrast=True).numpy(), change(x, equalize=True).numpy()
        for sample in range(3):
            for channel in range(2):
                one = whole[sample, channel]
                span = np.ptp(one) or 1
                expected = (one - one.min()) / span * 255 if np.ptp(one) else one
                assert np.allclose(stretched[sample, channel], expected, atol=1e-3)
                levels = np.rint(one).astype(int)
                cdf = np.bincount(levels.ravel(), minlength=256).cumsum()
                lookup = (cdf - cdf[levels.min()]) / max(levels.size - cdf[levels.min()], 1) * 255
                assert np.allclose(equalized[sample, channel], lookup[levels], atol=1e-3)

    @pytest.mark.parametrize("size", [(24, 20), (12, 14, 16)])
    def test_the_bias_field_is_smooth_positive_and_the_exponential_of_a_quadratic(self, size):
        d = len(size)
        coefficients = 0.3 * normal(d + d * (d + 1) // 2)
        field = change(torch.full((1, 1, *size), 20.0), bias=coefficients)[0, 0] / 20
        assert field.min() > 0
        log = field.double().log()
        for axis in range(d):  # third differences of a quadratic are zero, and steps are small
            assert log.diff(n=3, dim=axis).abs().max() < 1e-5
            assert log.diff(dim=axis).abs().max() < 0.5
        axes = torch.meshgrid(*(torch.linspace(-1, 1, length) for length in size), indexing="ij")
        terms = [*axes, *(axes[i] * axes[j] for i in range(d) for j in range(i, d))]
        expected = sum(c * term for c, term in zip(coefficients.tolist(), terms))
        assert torch.allclose(log.float(), expected, atol=1e-4)

    def test_noise_has_the_standard_deviation_and_differs_between_samples(self):
        x = torch.full((3, 1, 60, 60), 128.0)
        neutral = Transform.neutral(3, 2)
        start = torch.tensor([0, 1_000_000, 4_194_000])  # the last one reads on from the reservoir's beginning
        noise = apply(x, replace(neutral, noise=torch.tensor([5.0, 5.0, 2.0]), noise_start=start)) - 128
        assert noise.std(dim=(1, 2, 3)).tolist() == pytest.approx([5.0, 5.0, 2.0], rel=0.05)
        assert noise.mean().abs() < 0.2
        assert not torch.equal(noise[0], noise[1])


class TestNeutral:
    @pytest.mark.parametrize("shape", [(4, 2, 7, 6), (3, 1, 5, 6, 7)])
    def test_neutral_parameters_change_no_bit(self, shape):
        x = images(*shape) + 0.3
        x = x.clamp(0, 255)
        assert torch.equal(apply(x, Transform.neutral(shape[0], len(shape) - 2)), x)
        assert apply(x, None) is x

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_neutral_sample_stays_as_it_is_in_whatever_batch(self, kind):
        x = (images(9, 2, 7, 6) + 0.3).clamp(0, 255)
        transform = Transform.cat([drawn(kind, 4, (7, 6)), Transform.neutral(1, 2), drawn(kind, 4, (7, 6), seed=1)])
        assert torch.equal(apply(x, transform)[4], x[4])

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("size", [(12, 10), (6, 8, 10)])
    def test_a_sample_is_changed_in_the_same_way_in_whatever_batch(self, kind, size):
        parts = [drawn(kind, n, size, seed=n) for n in (1, 5, 3)]
        batches = [images(n, 1, *size, seed=n) for n in (1, 5, 3)]
        apart = torch.cat([apply(x, part) for x, part in zip(batches, parts)])
        assert torch.equal(apply(torch.cat(batches), Transform.cat(parts)), apart)


class TestDraws:
    def test_none_draws_nothing(self):
        generator = torch.Generator().manual_seed(0)
        before = generator.get_state()
        assert draw("none", 4, (8, 8), Legal((-1,), bias_field=True), generator) is None
        assert torch.equal(generator.get_state(), before)

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_same_seed_draws_the_same_and_another_one_something_else(self, kind):
        assert same(drawn(kind), drawn(kind))
        assert not same(drawn(kind), drawn(kind, seed=1))

    @given(
        kind=st.sampled_from(KINDS),
        seed=st.integers(0, 10**6),
        size=st.lists(st.integers(2, 9), min_size=2, max_size=3),
        channels=st.integers(1, 3),
    )
    def test_whatever_is_drawn_gives_finite_intensities_in_range(self, kind, seed, size, channels):
        x = images(6, channels, *size, seed=seed)
        x[0] = 0  # nothing to stretch
        got = apply(x, drawn(kind, 6, tuple(size), seed=seed))
        assert got.shape == x.shape
        assert 0 <= got.min() <= got.max() <= 255

    @pytest.mark.parametrize("size", [(12, 10), (6, 12, 10)])
    @pytest.mark.parametrize("flips", [(), (-1,), (-2,), (-1, -2), (-3, -1)])
    def test_only_legal_flips_ever_occur_and_each_does_for_half_of_the_samples(self, size, flips):
        flips = tuple(axis for axis in flips if -axis <= len(size))
        legal = Legal(flips=flips)
        matrix = drawn("medical", 600, size, legal).affine[:, :, :-1]
        if legal.free_rotation:
            mirrored = torch.linalg.det(matrix) < 0
            assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.07)
            return
        for axis in range(-len(size), 0):
            mirrored = matrix[:, axis, axis] < 0
            if axis in flips:
                assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.07)
            else:
                assert not mirrored.any()

    def test_images_with_an_orientation_turn_by_no_more_than_15_degrees_and_others_by_any(self):
        for legal, most in ((Legal(flips=(-1,)), 15.0), (Legal(flips=(-1, -2)), 180.0)):
            matrix = drawn("medical", 500, legal=legal).affine[:, :, :-1]
            angle = torch.rad2deg(torch.atan2(matrix[:, 0, 1].abs(), matrix[:, 1, 1].abs()))
            turned = torch.rad2deg(torch.arccos((matrix[:, 0, 0] / torch.linalg.det(matrix).abs().sqrt()).clamp(-1, 1)))
            assert (angle if most < 90 else turned).max().item() == pytest.approx(most, rel=0.05)

    def test_a_bias_field_is_drawn_for_half_of_the_samples_where_it_is_legal_and_never_elsewhere(self):
        assert not drawn("medical", legal=Legal(bias_field=False)).bias.any()
        biased = drawn("medical", 600).bias.any(dim=1)
        assert biased.float().mean().item() == pytest.approx(0.5, abs=0.07)

    def test_light_never_flips_nor_turns_and_shifts_by_up_to_a_tenth(self):
        found = drawn("light", 500, (20, 40))
        assert torch.equal(found.affine[:, :, :2], torch.eye(2).expand(500, 2, 2))
        shift = found.affine[:, :, 2].abs().amax(dim=0)
        assert shift.tolist() == pytest.approx([2.0, 4.0], rel=0.02)

    @pytest.mark.parametrize(("size", "n_operations"), [((12, 10), 14), ((6, 12, 10), 16)])
    def test_trivial_applies_one_operation_per_image_each_as_often(self, size, n_operations):
        found, neutral = drawn("trivial", 4000, size), Transform.neutral(1, len(size))
        changed = {
            name: (getattr(found, name) != getattr(neutral, name)).reshape(4000, -1).any(dim=1)
            for name in Transform.__slots__
            if name != "noise_start"
        }
        assert torch.stack(list(changed.values())).sum(dim=0).max() == 1
        geometric = 2 * len(size) + 1  # a shear and a shift for each axis, and the rotation
        for name, share in {
            "affine": geometric,
            "brightness": 1,
            "equalize": 1,
            "noise": 0,
            "bias": 0,
            "gamma": 0,
        }.items():
            assert changed[name].float().mean().item() == pytest.approx(share / n_operations, abs=0.03), name
        assert 2 <= found.bits.min() < 4


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_trial_it_changes_every_epoch_and_the_same_seed_draws_the_same(kind):
    data = tiny_data(legal_flips=(-1,), bias_field=True)
    result = tiny_trial(data, augmentation=kind)
    assert result.error is None
    assert curve(result) == curve(tiny_trial(data, augmentation=kind))
    assert all(ours != plain for ours, plain in zip(curve(result), curve(tiny_trial(data))))


def test_what_is_legal_reaches_the_augmentation():
    legal, illegal = (tiny_trial(tiny_data(**v), augmentation="medical") for v in ({"legal_flips": (-1,)}, {}))
    assert curve(legal) != curve(illegal)
