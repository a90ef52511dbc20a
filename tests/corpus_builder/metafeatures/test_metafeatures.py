from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from corpus_builder.cli import cli
from corpus_builder.metafeatures import DESCRIPTORS, Measurement, TrainingPart, basic, measure, spacing, undefined_notes
from corpus_builder.metafeatures.registry import MODULES
from metaquery.errors import InvalidInput
from metaquery.schema import table
from metaquery.schema.tables import from_rows


def values(images: NDArray[Any], labels: NDArray[Any] | None = None, n_groups: int = 1) -> dict[str, float]:
    """The descriptors that need neither texture nor probes."""
    labels = np.zeros(len(images), dtype=np.int64) if labels is None else labels
    part = TrainingPart(images, labels, (np.arange(len(images)) % n_groups).astype(np.str_))
    return {descriptor.name: descriptor.function(part) for descriptor in basic.DESCRIPTORS}


def noise(*shape: int, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_rows_are_the_registry_and_fit_the_table() -> None:
    rows = measure(TrainingPart(noise(6, 1, 5, 4), np.array([0, 0, 1, 1, 1, 1]), np.array(list("aabbcc")))).rows
    assert [row["name"] for row in rows] == list(DESCRIPTORS)
    assert len(DESCRIPTORS) == sum(len(module.DESCRIPTORS) for module in MODULES), "two descriptors have one name"
    full = [{"dataset": "toy", "fold": 0, **row} for row in rows]
    assert len(from_rows(table("metafeatures").arrow_schema(), full, what="metafeatures")) == len(DESCRIPTORS)
    assert all(row["seconds"] >= 0 for row in rows)


def test_counts_and_balance() -> None:
    found = values(noise(8, 3, 6, 5, 4), np.array([0, 0, 0, 0, 0, 0, 2, 2]), n_groups=5)
    expected = {"n_train": 8, "n_groups_train": 5, "n_classes": 2, "n_dims": 3, "channels": 3, "voxels": 120}
    assert {name: found[name] for name in expected} == expected
    assert found["minority_share"] == 0.25
    assert found["class_balance_entropy"] == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))
    assert values(noise(2, 1, 3, 3))["class_balance_entropy"] == 0
    assert values(noise(4, 1, 3, 3), np.array([0, 1, 2, 3]))["class_balance_entropy"] == pytest.approx(1)


def test_moments_and_percentiles_are_those_of_scipy() -> None:
    images = (np.random.default_rng(1).gamma(2.0, 20.0, (9, 2, 7, 6)) % 256).astype(np.uint8)
    flat = images.reshape(-1) / 255
    found = values(images)
    assert found["intensity_mean"] == pytest.approx(flat.mean())
    assert found["intensity_std"] == pytest.approx(flat.std())
    assert found["intensity_skewness"] == pytest.approx(stats.skew(flat))
    assert found["intensity_kurtosis"] == pytest.approx(stats.kurtosis(flat))
    for percent in (1, 5, 25, 50, 75, 95, 99):
        expected = np.percentile(flat, percent, method="inverted_cdf")
        assert found[f"intensity_p{percent:02d}"] == pytest.approx(expected)


def test_foreground_is_found_by_otsu() -> None:
    images = np.full((2, 1, 10, 10), 20, dtype=np.uint8)
    images[:, :, :3, :5] = 180
    images[:, :, 9, 9] = 30
    assert values(images)["foreground_share"] == 0.15


def test_gradient_energy_by_hand() -> None:
    image = np.array([[[[0, 255], [0, 0]]]], dtype=np.uint8)  # differences: down 0 and 255, across 255 and 0
    assert values(image)["gradient_energy"] == 0.5


def test_effective_rank_counts_directions() -> None:
    base = np.zeros((40, 1, 4, 4), dtype=np.uint8)
    signs = np.array([[a, b] for a in (0, 100) for b in (0, 100)] * 10)
    base[:, 0, 0, 0], base[:, 0, 1, 1] = signs.T
    assert values(base)["effective_rank"] == pytest.approx(2)  # two independent pixels with equal variance
    base[:, 0, 1, 1] = 7
    assert values(base)["effective_rank"] == pytest.approx(1)
    pixels = noise(30, 1, 8, 8)
    singular = np.linalg.svd(pixels.reshape(30, -1) - pixels.reshape(30, -1).mean(0), compute_uv=False) ** 2
    assert values(pixels)["effective_rank"] == pytest.approx(np.exp(stats.entropy(singular)))


def test_constant_images_have_no_variation_and_no_nan() -> None:
    found = values(np.full((5, 1, 4, 4, 4), 77, dtype=np.uint8))
    for name in ("std", "skewness", "kurtosis"):
        assert found[f"intensity_{name}"] == 0
    assert found["foreground_share"] == found["gradient_energy"] == found["effective_rank"] == 0
    assert found["intensity_p01"] == found["intensity_p99"] == 77 / 255


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 400))
def test_order_of_the_samples_does_not_matter_in_the_last_bit(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    images, labels = noise(n, 1, 6, 5, seed=seed), rng.integers(3, size=n)
    images[: n // 3] = images[0]  # repeated images must not break the order either
    order = rng.permutation(n)
    assert values(images, labels) == values(images[order], labels[order])


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(10, 1, 6, 5)
    whole = values(images)
    monkeypatch.setattr("corpus_builder.metafeatures.part._CHUNK_VALUES", 1)
    assert values(images) == whole


def test_smooth_images_have_less_texture_than_noise() -> None:
    from scipy.ndimage import gaussian_filter

    rough = noise(10, 1, 16, 16)
    smooth = gaussian_filter(rough, (0, 0, 2, 2))
    assert values(smooth)["gradient_energy"] < 0.1 * values(rough)["gradient_energy"]


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (noise(1, 1, 1, 1), [0]),
        (noise(5, 3, 9, 7), [0, 1, 2, 3, 4]),
        (noise(12, 1, 3, 8, 5), [0, 1] * 6),
        (np.full((12, 1, 6, 6), 77, dtype=np.uint8), [0, 1] * 6),
        (noise(6, 4, 5, 5), [2] * 6),
    ],
    ids=["one pixel", "own classes", "flat volumes", "constant", "one class"],
)
def test_every_value_is_a_finite_number_or_null_with_a_reason(images: NDArray[Any], labels: list[int]) -> None:
    part = TrainingPart(images, np.array(labels), np.arange(len(labels)).astype(np.str_))
    measured = measure(part)
    for row in measured.rows:
        assert (row["value"] is None) == (row["name"] in measured.reasons)
        assert row["value"] is None or math.isfinite(row["value"]), row


def test_spacing_is_that_of_the_middle_sample() -> None:
    images = noise(3, 1, 4, 10, 10)
    known = np.array([[5.0, 0.5, 0.5], [2.0, 0.7, 0.7], [3.0, 0.6, 0.6]])
    part = TrainingPart(images, np.zeros(3, dtype=np.int64), np.array(["a", "b", "c"]), known)
    found = {descriptor.name: float(descriptor.function(part)) for descriptor in spacing.DESCRIPTORS}
    assert found == pytest.approx(
        {
            "spacing_min": 0.6,
            "spacing_median": 0.6,
            "spacing_max": 3.0,
            "spacing_anisotropy": 5.0,
            "extent_min": 6.0,
            "extent_max": 12.0,
        }
    )


def test_notes_say_each_reason_once() -> None:
    unknown = {"spacing_min": "not told", "spacing_max": "not told"}
    measured = [("a", Measurement([], unknown)), ("b", Measurement([], {**unknown, "logme": "one class"}))]
    assert undefined_notes([*measured, measured[0]]) == [
        "2 meta-features from spacing_min on are null for a, b: not told",
        "1 meta-features from logme on are null for b: one class",
    ]


def test_images_labels_and_groups_must_fit() -> None:
    with pytest.raises(InvalidInput, match="got 3 images, 2 labels and 3 groups"):
        TrainingPart(noise(3, 1, 4, 4), np.zeros(2, dtype=np.int64), np.array(["a", "b", "c"]))
    with pytest.raises(InvalidInput, match="at least one"):
        TrainingPart(noise(0, 1, 4, 4), np.zeros(0, dtype=np.int64), np.array([], dtype=np.str_))


def test_the_command_prints_value_seconds_and_meaning() -> None:
    line = ["datasets", "describe", "phantom_nodules3d", "--size"]
    done = CliRunner(env={"MEDCURVES_WEIGHTS": None}).invoke(cli, [*line, "8x8x8"], catch_exceptions=False)
    rows = {line.split()[0]: line.split(maxsplit=3) for line in done.output.splitlines() if line.strip()}
    assert set(DESCRIPTORS) <= set(rows)
    assert rows["voxels"][1] == "512"
    assert rows["voxels"][3].strip() == DESCRIPTORS["voxels"].meaning
    assert rows["imagenet_logme"][1] == "null"
    assert "set MEDCURVES_WEIGHTS" in done.output
    with pytest.raises(InvalidInput, match="'8,8,8' is not usable: expected whole numbers with x between"):
        CliRunner().invoke(cli, [*line, "8,8,8"], catch_exceptions=False)
