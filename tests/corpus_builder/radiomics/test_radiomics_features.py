"""Features of images whose features are known: by hand, by another library, or by a law."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.feature import graycomatrix, graycoprops

from corpus_builder.radiomics import firstorder, shape, texture
from corpus_builder.radiomics.features import extract, feature_names
from corpus_builder.radiomics.filters import derived_images, sub_bands


def noise(n=3, channels=1, size=(16, 16), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, channels, *size), dtype=np.uint8)


class TestFirstOrder:
    def of(self, values, shares=(1.0,)):
        found = firstorder.first_order(np.array(values, dtype=float), np.array(shares))
        return dict(zip(firstorder.NAMES, found.tolist(), strict=True))

    def test_values_counted_by_hand(self):
        found = self.of([1, 1, 3, 7], (0.5, 0.25, 0.25, 0.0))  # mean 3, deviations -2 -2 0 4
        assert found["mean"] == 3
        assert found["std"] == pytest.approx(math.sqrt(6))
        assert found["skewness"] == pytest.approx((-8 - 8 + 64) / 4 / 6**1.5)
        assert found["kurtosis"] == pytest.approx((16 + 16 + 256) / 4 / 36 - 3)
        assert (found["minimum"], found["p25"], found["median"], found["maximum"]) == (1, 1, 2, 7)
        assert found["mean_absolute_deviation"] == 2
        assert found["root_mean_square"] == pytest.approx(math.sqrt(15))
        assert found["entropy"] == pytest.approx(1.5)
        assert found["uniformity"] == pytest.approx(0.375)

    def test_one_value_has_no_spread_and_no_value_no_statistics(self):
        found = self.of([0.1] * 1000)
        assert (found["skewness"], found["kurtosis"], found["entropy"]) == (0, 0, 0)
        assert all(map(math.isnan, self.of([], (0.0,)).values()))


class TestTexture:
    def test_a_matrix_counted_by_hand(self):
        levels = np.array([[0, 0], [1, 2]])
        counts = texture.cooccurrence(levels, 1)
        expected = np.zeros((texture.LEVELS, texture.LEVELS))  # right: 00 12, down: 01 02, diagonals: 02 and 01
        for i, j in ((0, 0), (1, 2), (0, 1), (0, 2), (0, 2), (0, 1)):
            expected[i, j] += 1
            expected[j, i] += 1
        assert np.array_equal(counts, expected)
        found = dict(zip(texture.NAMES, texture.texture(counts).tolist(), strict=True))
        assert found["contrast"] == pytest.approx((1 + 2 * 1 + 2 * 4) / 6)
        assert found["dissimilarity"] == pytest.approx((1 + 2 * 1 + 2 * 2) / 6)
        assert found["homogeneity"] == pytest.approx((1 + 3 / 2 + 2 / 5) / 6)
        assert found["joint_maximum"] == pytest.approx(2 / 12)
        assert found["angular_second_moment"] == pytest.approx((5 * 4 + 2 * 1) / 144)

    @pytest.mark.parametrize("distance", texture.DISTANCES)
    def test_the_plane_against_scikit_image(self, distance):
        levels = np.random.default_rng(1).integers(0, texture.LEVELS, (9, 12))
        counts = texture.cooccurrence(levels, distance)
        reference = np.zeros_like(counts)
        for angle, reach in ((0, 1), (np.pi / 4, np.sqrt(2)), (np.pi / 2, 1), (3 * np.pi / 4, np.sqrt(2))):
            args = (levels.astype(np.uint8), [distance * reach], [angle], texture.LEVELS)
            reference += graycomatrix(*args, symmetric=True)[:, :, 0, 0]
        assert np.array_equal(counts, reference)
        merged = (reference / reference.sum())[:, :, None, None]
        found = dict(zip(texture.NAMES, texture.texture(counts).tolist(), strict=True))
        for ours, theirs in (("contrast", "contrast"), ("homogeneity", "homogeneity"), ("correlation", "correlation")):
            assert found[ours] == pytest.approx(graycoprops(merged, theirs)[0, 0])

    def test_thirteen_directions_in_space(self):
        assert len(texture.directions(3)) == 13
        assert not {tuple(-s for s in d) for d in texture.directions(3)} & set(texture.directions(3))
        counts = texture.cooccurrence(np.zeros((3, 3, 3), dtype=int), 1)
        pairs = 3 * 2 * 9 + 6 * 4 * 3 + 4 * 8  # along axes, face diagonals, space diagonals
        assert counts[0, 0] == 2 * pairs == counts.sum()

    def test_what_is_outside_of_the_region_does_not_count(self):
        image = np.random.default_rng(2).normal(size=(10, 10))
        mask = np.zeros((10, 10), dtype=bool)
        mask[2:7, 3:9] = True
        inside = texture.cooccurrence(texture.grey_levels(image[2:7, 3:9], None), 1)
        assert np.array_equal(texture.cooccurrence(texture.grey_levels(image, mask), 1), inside)

    def test_levels_are_equally_wide_over_the_range_and_one_where_there_is_none(self):
        levels = texture.grey_levels(np.arange(32.0).reshape(4, 8), None)
        assert levels.ravel().tolist() == sorted([*range(16), *range(16)])[:-1] + [15]
        assert (texture.grey_levels(np.full((3, 3), 7.0), None) == 0).all()
        flat = texture.texture(texture.cooccurrence(np.zeros((4, 4), dtype=int), 1))
        assert dict(zip(texture.NAMES, flat.tolist(), strict=True))["correlation"] == 1
        assert np.isnan(texture.texture(np.zeros((texture.LEVELS, texture.LEVELS)))).all()


class TestShape:
    def of(self, mask, spacing=None):
        found = shape.shape(mask, None if spacing is None else np.array(spacing))
        return dict(zip(shape.names(mask.ndim), found.tolist(), strict=True))

    @pytest.mark.parametrize(("n_dims", "content"), [(2, math.pi * 12**2), (3, 4 / 3 * math.pi * 12**3)])
    def test_a_ball(self, n_dims, content):
        grid = np.indices((32,) * n_dims) - 15.5
        found = self.of((grid**2).sum(0) <= 12**2)
        size = found["area" if n_dims == 2 else "volume"]
        assert size == pytest.approx(content, rel=0.02)
        assert 0.9 < found["sphericity"] < 1
        assert found["elongation"] == pytest.approx(1)
        assert found["major_axis"] == pytest.approx(24, rel=0.01)
        assert [found[f"extent_{axis}"] for axis in range(n_dims)] == [24] * n_dims

    def test_a_box_in_millimetres(self):
        mask = np.zeros((20, 20, 20), dtype=bool)
        mask[3:13, 5:9, 0:20] = True
        found = self.of(mask, (2.0, 1.0, 0.5))
        assert [found[f"extent_{axis}"] for axis in range(3)] == [20, 4, 10]
        assert found["volume"] == pytest.approx(20 * 4 * 10, rel=0.06)  # marching cubes cuts the edges off
        assert found["surface"] == pytest.approx(2 * (20 * 4 + 20 * 10 + 4 * 10), rel=0.06)
        assert found["elongation"] == pytest.approx(10 / 20)
        assert found["flatness"] == pytest.approx(4 / 20)

    def test_a_rectangle_and_one_with_a_hole(self):
        mask = np.zeros((40, 40), dtype=bool)
        mask[5:35, 10:20] = True
        whole = self.of(mask)
        assert whole["area"] == pytest.approx(300, abs=1)
        assert whole["perimeter"] == pytest.approx(80, rel=0.04)
        mask[15:21, 13:17] = False
        holed = self.of(mask)
        assert holed["area"] == pytest.approx(whole["area"] - 24, abs=1)
        assert holed["perimeter"] > whole["perimeter"] + 15

    def test_spacing_scales_and_the_place_does_not_matter(self):
        mask = np.zeros((12, 12, 12), dtype=bool)
        mask[2:6, 2:5, 2:9] = True
        plain, wide, moved = self.of(mask), self.of(mask, (3.0,) * 3), self.of(np.roll(mask, 3, axis=(0, 1, 2)))
        powers = {"volume": 3, "surface": 2, "sphericity": 0, "elongation": 0, "flatness": 0}
        for name, value in plain.items():
            assert wide[name] == pytest.approx(value * 3.0 ** powers.get(name, 1), rel=1e-5)
            assert moved[name] == pytest.approx(value, rel=1e-5)

    def test_a_single_voxel_has_a_shape_and_nothing_has_none(self):
        mask = np.zeros((5, 5, 5), dtype=bool)
        assert all(map(math.isnan, self.of(mask).values()))
        mask[2, 2, 2] = True
        assert all(math.isfinite(value) and value > 0 for value in self.of(mask).values())


class TestFilters:
    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.sampled_from([4, 6, 8, 10]), min_size=2, max_size=3), st.integers(0, 2**16))
    def test_wavelets_keep_the_energy(self, size, seed):
        image = np.random.default_rng(seed).normal(size=size)
        bands = sub_bands(image)
        assert len(bands) == 2 ** len(size)
        assert sum((band**2).sum() for band in bands.values()) == pytest.approx((image**2).sum())

    def test_a_flat_image_is_all_low(self):
        for name, band in sub_bands(np.full((8, 8), 5.0)).items():
            assert np.allclose(band, 10.0 if name == "LL" else 0.0)

    def test_a_stripe_is_seen_by_the_band_across_it(self):
        stripes = np.tile([0.0, 1.0], (8, 4))  # changes along the last axis only
        energy = {name: float((band**2).sum()) for name, band in sub_bands(stripes).items()}
        assert energy["LH"] > 1
        assert energy["HL"] == pytest.approx(0)
        assert energy["HH"] == pytest.approx(0)

    @pytest.mark.parametrize("size", [(7, 9), (5, 6, 7), (1, 4)])
    def test_odd_sizes_keep_image_and_region_together(self, size):
        mask = np.zeros(size, dtype=bool)
        mask[tuple(n - 1 for n in size)] = True
        for name, image, region in derived_images(np.ones(size), mask):
            assert image.shape == region.shape, name
            assert region.any(), name


class TestTable:
    @pytest.mark.parametrize(("channels", "size"), [(1, (16, 16)), (3, (8, 8)), (1, (8, 8, 8))])
    @pytest.mark.parametrize("masked", [False, True])
    def test_every_column_has_one_name_and_every_value_is_finite(self, channels, size, masked):
        images = noise(2, channels, size)
        masks = np.zeros((2, *size), dtype=bool)
        masks[:, 2:6, 1:7] = True
        table = extract(images, masks if masked else None)
        names = feature_names(channels, len(size), masked=masked)
        assert table.shape == (2, len(names))
        assert len(set(names)) == len(names)
        assert np.isfinite(table).all()

    def test_the_columns_are_what_they_are_called(self):
        images = noise(2, 2)
        names = feature_names(2, 2, masked=False)
        table = extract(images)
        for channel in range(2):
            column = table[:, names.index(f"channel{channel}.original.mean")]
            assert column == pytest.approx(images[:, channel].mean(axis=(1, 2)))
        assert table[:, names.index("channel1.wavelet_LL.mean")] == pytest.approx(2 * images[:, 1].mean(axis=(1, 2)))

    def test_a_sample_does_not_depend_on_the_others(self):
        images, order = noise(4), [2, 0, 3, 1]
        table = extract(images)
        assert np.array_equal(table, extract(images))
        assert np.array_equal(extract(images[order]), table[order])

    def test_the_region_and_nothing_else_gives_intensity_statistics(self):
        images = noise(1)
        masks = np.zeros((1, 16, 16), dtype=bool)
        masks[0, 4:12, 4:12] = True
        changed = images.copy()
        changed[0, 0, ~masks[0]] = 255
        names = feature_names(1, 2, masked=True)
        local = [names.index(f"original.{name}") for name in (*firstorder.NAMES, "glcm1.contrast", "glcm2.correlation")]
        assert np.array_equal(extract(images, masks)[:, local], extract(changed, masks)[:, local])

    def test_spacing_changes_the_shape_only(self):
        images, masks = noise(1), np.zeros((1, 16, 16), dtype=bool)
        masks[0, 4:12, 4:8] = True
        names = feature_names(1, 2, masked=True)
        changed = extract(images, masks)[0] != extract(images, masks, np.array([[2.0, 3.0]]))[0]
        assert {name.split(".")[0] for name, differs in zip(names, changed, strict=True) if differs} == {"shape"}

    def test_an_empty_mask_leaves_nothing(self):
        assert np.isnan(extract(noise(1), np.zeros((1, 16, 16), dtype=bool))).all()

    def test_an_image_of_one_value_is_described(self):
        assert np.isfinite(extract(np.full((1, 1, 16, 16), 9, dtype=np.uint8))).all()
