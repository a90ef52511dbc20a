"""A generated dataset: lesions with a smooth or a spiculated border in textured noise. Synthetic, needs no files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corpus_builder.datasets.raw import RawDataset

if TYPE_CHECKING:
    from corpus_builder.datasets.cards import Card

_N_SPICULES = 14


def read(card: Card, _data_root: Path | None) -> RawDataset:
    """Generate samples from `card.generator`, with the counts of classes and groups of `card`; needs no data root.

    The first class has smooth lesions, every other one spiculated lesions. The same card gives the same bytes.
    """
    shape, difficulty = tuple(card.generator["shape"]), float(card.generator["difficulty"])
    seed = int(card.generator["seed"])
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(card.classes)), card.class_counts)).astype(np.int64)
    extra = rng.integers(card.n_groups, size=card.n_samples - card.n_groups)
    patients = np.sort(np.concatenate([np.arange(card.n_groups), extra]))  # nobody is without a sample
    images = np.empty((card.n_samples, *shape), dtype=np.uint8)
    for patient in range(card.n_groups):
        patient_rng = np.random.default_rng([seed, patient])
        tissue = _Tissue(patient_rng, difficulty)
        for sample in np.flatnonzero(patients == patient):
            field = tissue.background(shape, patient_rng)
            field += _contrast(difficulty) * _lesion(shape, labels[sample] > 0, difficulty, patient_rng)
            images[sample] = np.clip(np.rint(field), 0, 255)
    digits = len(str(card.n_groups - 1))
    groups = np.array([f"patient_{patient:0{digits}d}" for patient in patients])
    return RawDataset(images, labels, groups, official_roles=None, origin=f"generator of data card {card.name!r}")


def _blend(easy: float, hard: float, difficulty: float) -> float:
    return easy + (hard - easy) * difficulty


def _contrast(difficulty: float) -> float:
    return _blend(150.0, 50.0, difficulty)


class _Tissue:
    """What the samples of one synthetic patient share: kind, level, grain and noise of the background."""

    def __init__(self, rng: np.random.Generator, difficulty: float) -> None:
        soft = rng.random() < 0.5
        self.level = rng.normal(80.0 if soft else 35.0, 6.0)
        self.grain = rng.uniform(1.6, 2.4) if soft else rng.uniform(0.8, 1.3)
        self.noise = _blend(8.0, 34.0, difficulty) * rng.uniform(0.85, 1.15)

    def background(self, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
        """Correlated noise with unit-free standard deviation `noise` around `level`, a tenth of it white."""
        from scipy.ndimage import gaussian_filter

        texture = gaussian_filter(rng.standard_normal(shape), self.grain, mode="wrap")
        texture *= self.noise / texture.std()
        return np.asarray(self.level + texture + 0.1 * self.noise * rng.standard_normal(shape))


def _lesion(
    shape: tuple[int, ...], spiculated: bool, difficulty: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Occupancy from 0 to 1 of one lesion near the centre: an ellipsoid close to a sphere, or a ball with spikes.

    The border of a spiculated lesion lies at r (1 + a sum_k exp(k (cos angle_k - 1))): each spike is a narrow cone.
    Its core is smaller, so that both kinds fill about the same volume.
    """
    unit = min(shape)
    radius = rng.uniform(0.17, 0.25) * unit
    offset = rng.uniform(-0.06, 0.06, size=3) * unit
    axes = rng.uniform(0.9, 1.1, size=3)
    grid = np.meshgrid(*[np.arange(length) - (length - 1) / 2 for length in shape], indexing="ij")
    position = np.stack(grid, axis=-1) - offset
    distance = np.linalg.norm(position / axes, axis=-1)
    border = np.full(shape, radius)
    if spiculated:
        spikes = rng.standard_normal((_N_SPICULES, 3))
        spikes /= np.linalg.norm(spikes, axis=1, keepdims=True)
        cosine = position @ spikes.T / np.maximum(np.linalg.norm(position, axis=-1, keepdims=True), 1e-9)
        relief = _blend(1.1, 0.35, difficulty) * np.exp(25.0 * (cosine - 1.0)).max(axis=-1)
        relief *= rng.uniform(0.9, 1.1)
        border = radius * (1.0 + relief)
        border *= (1.0 / np.mean((1.0 + relief) ** 3)) ** (1 / 3)
    brightness = rng.uniform(0.85, 1.15)
    return np.asarray(brightness / (1.0 + np.exp(2.5 * (distance - border))))
