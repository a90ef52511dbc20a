"""Texture by hand, against its invariances, and on slices of volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from corpus_builder.metafeatures import TrainingPart, texture
from corpus_builder.metafeatures.descriptor import Undefined
from corpus_builder.metafeatures.slices import MOST_SLICES, slices


def values(images: NDArray[Any]) -> dict[str, float]:
    part = TrainingPart(images, np.zeros(len(images), dtype=np.int64), np.full(len(images), "a"))
    return {descriptor.name: descriptor.function(part) for descriptor in texture.DESCRIPTORS}


def noise(*shape: int, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def right_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the neighbours at distance 1 along a row, so that the matrix can be written down."""
    monkeypatch.setattr(texture, "_DISTANCES", (1,))
    monkeypatch.setattr(texture, "_ANGLES", (0.0,))


@pytest.mark.usefixtures("right_neighbours")
def test_the_example_of_haralick_by_hand() -> None:
    """The 4 x 4 image of the paper's figure 3 and its horizontal matrix P_H."""
    image = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 2, 2, 2], [2, 2, 3, 3]])
    p = np.array([[4, 2, 1, 0], [2, 4, 0, 0], [1, 0, 6, 1], [0, 0, 1, 2]]) / 24
    i, j = np.indices(p.shape)
    mean = (p * i).sum()
    found = values((8 * image[None, None]).astype(np.uint8))  # 256 intensities are 32 levels
    assert found["glcm_contrast"] == pytest.approx(2 * (2 * 1 + 1 * 4 + 1 * 1) / 24)
    assert found["glcm_homogeneity"] == pytest.approx((16 + 2 * (2 / 2 + 1 / 5 + 1 / 2)) / 24)
    assert found["glcm_energy"] == pytest.approx(np.sqrt(16 + 16 + 36 + 4 + 2 * (4 + 1 + 1)) / 24)
    assert found["glcm_correlation"] == pytest.approx((p * (i - mean) * (j - mean)).sum() / (p * (i - mean) ** 2).sum())
    assert found["glcm_entropy"] == pytest.approx(-sum(q * np.log(q) for q in p.ravel() if q > 0))


@pytest.mark.usefixtures("right_neighbours")
def test_counts_of_the_slices_of_a_volume_are_added() -> None:
    flat, striped = np.full((4, 4), 0), np.tile([0, 8], (4, 2))  # 24 pairs 0-0; 12 pairs 0-1, 12 pairs 1-0
    volume = np.stack([flat, striped])[None, None].astype(np.uint8)
    found = values(volume)
    assert found["glcm_contrast"] == pytest.approx(0.5)
    assert found["glcm_energy"] == pytest.approx(np.sqrt(0.5**2 + 0.25**2 + 0.25**2))
    assert found["glcm_entropy"] == pytest.approx(-(0.5 * np.log(0.5) + 2 * 0.25 * np.log(0.25)))


def test_statistics_are_means_over_samples_and_directions() -> None:
    images = noise(5, 1, 9, 8)
    alone = [values(image[None]) for image in images]
    together = values(images)
    for name in together.keys() - {"lbp_entropy"}:
        assert together[name] == pytest.approx(np.mean([found[name] for found in alone]))
    turned = values(np.rot90(images, axes=(2, 3)).copy())
    assert all(turned[name] == pytest.approx(together[name]) for name in together)


def test_local_patterns_do_not_see_contrast_but_order() -> None:
    images = noise(6, 1, 16, 16) // 4
    assert values(2 * images + 17)["lbp_entropy"] == values(images)["lbp_entropy"] <= 1
    ramps = np.tile(np.arange(0, 160, 10, dtype=np.uint8), (6, 1, 16, 1))
    assert values(ramps)["lbp_entropy"] < 0.5 * values(images)["lbp_entropy"]


def test_colour_is_averaged() -> None:
    grey = noise(3, 1, 8, 8) // 2
    colour = np.concatenate([grey, grey + 9, 2 * grey], axis=1)
    mean = (colour.astype(int).sum(axis=1, keepdims=True) // 3).astype(np.uint8)
    assert values(colour) == pytest.approx(values(mean))  # the subset has another order


def test_a_volume_is_seen_as_evenly_spaced_slices() -> None:
    volume = np.arange(13, dtype=np.uint8)[None, None, :, None, None] * np.ones((2, 3, 13, 4, 5), dtype=np.uint8)
    assert slices(volume).shape == (2, MOST_SLICES, 3, 4, 5)
    assert slices(volume)[0, :, 0, 0, 0].tolist() == [1, 3, 5, 7, 9, 11]
    assert slices(volume[:, :, :4])[0, :, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert slices(volume[:, :, 0]).shape == (2, 1, 3, 4, 5)


def test_order_of_the_samples_does_not_matter_in_the_last_bit() -> None:
    images = noise(270, 1, 6, 6)  # more than are looked at
    assert values(images) == values(images[np.random.default_rng(1).permutation(270)])


def test_a_line_has_no_neighbours_in_all_directions() -> None:
    with pytest.raises(Undefined, match="too small"):
        values(noise(3, 1, 1, 50))
