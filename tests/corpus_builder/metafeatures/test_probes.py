"""Probes against direct computations, on data whose answer is known, and under permutation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import multivariate_normal
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from corpus_builder.datasets import load_card, prepare, roles
from corpus_builder.metafeatures import DESCRIPTORS, TrainingPart, measure, probes, scores
from corpus_builder.metafeatures.descriptor import Undefined
from corpus_builder.metafeatures.probe_features import imagenet_net, random_net
from metaquery.errors import InvalidData
from metaquery.metrics import auc, balanced_accuracy


def toy_part(n: int, *shape: int, n_groups: int = 10, n_classes: int = 2, seed: int = 0) -> TrainingPart:
    """Noise whose brightness depends on the class, in groups of one class each."""
    rng = np.random.default_rng(seed)
    groups = np.arange(n) % n_groups
    labels = groups % n_classes
    images = rng.integers(0, 200, (n, *shape), dtype=np.uint8) + 20 * labels.reshape(-1, *[1] * len(shape))
    return TrainingPart(images.astype(np.uint8), labels, np.char.add("patient", groups.astype(np.str_)))


def shuffled(part: TrainingPart, seed: int = 0) -> TrainingPart:
    order = np.random.default_rng(seed).permutation(len(part.labels))
    return TrainingPart(part.images[order], part.labels[order], part.groups[order], None, part.weights_root)


def values(part: TrainingPart) -> dict[str, float | None]:
    return {row["name"]: row["value"] for row in measure(part).rows}


def direct_log_evidence(features: NDArray[Any], target: NDArray[Any]) -> float:
    """The largest density of `target` over both precisions, from the definition of the model."""

    def loss(logs: NDArray[Any]) -> float:
        alpha, beta = np.exp(logs)
        covariance = np.eye(len(target)) / beta + features @ features.T / alpha
        return -float(multivariate_normal(cov=covariance).logpdf(target))

    starts = ((0.0, 0.0), (4.0, 1.0), (-3.0, 3.0))
    return -min(minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-8}).fun for start in starts)


@pytest.mark.parametrize(("n", "width"), [(12, 3), (9, 14)], ids=["more samples", "more features"])
def test_logme_is_the_maximum_evidence(n: int, width: int) -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(n) % 3
    features = rng.normal(size=(n, width)) + 0.8 * labels[:, None]
    expected = [direct_log_evidence(features, (labels == label).astype(float)) for label in range(3)]
    assert scores.logme(features, labels) == pytest.approx(np.mean(expected) / n, rel=1e-5)


def test_logme_prefers_features_that_know_the_labels() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    noise = rng.normal(size=(80, 6))
    knowing = noise.copy()
    knowing[:, 0] += 3 * labels
    assert scores.logme(knowing, labels) > scores.logme(noise, labels) + 0.2


def test_separable_features_are_told_apart_and_random_labels_are_not() -> None:
    rng = np.random.default_rng(0)
    groups = np.arange(300) % 60
    labels = groups % 3
    clean = rng.normal(size=(300, 8)) + 12 * np.eye(8)[labels]
    found = scores.out_of_fold(clean, labels, groups)
    assert auc(labels, found) == 1
    assert balanced_accuracy(labels, found) == scores.neighbour_accuracy(clean, labels, groups) == 1
    assert scores.separability(clean, labels) > 0.3
    assert scores.silhouette(clean, labels) > 0.25
    noise = rng.normal(size=(300, 8))
    assert auc(labels, scores.out_of_fold(noise, labels, groups)) == pytest.approx(0.5, abs=0.1)
    assert scores.neighbour_accuracy(noise, labels, groups) == pytest.approx(1 / 3, abs=0.1)
    assert scores.separability(noise, labels) < 0.03
    assert abs(scores.silhouette(noise, labels)) < 0.03


def test_groups_never_straddle_folds_and_do_not_leak() -> None:
    """Each group has its own cluster and a random class, so that whoever sees a group knows its class."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(80), 4)
    labels = rng.permutation(80)[groups] % 2
    features = rng.normal(size=(80, 12))[groups] + 0.01 * rng.normal(size=(320, 12))
    folds = scores.grouped_folds(labels, groups)
    assert len(folds) == scores.FOLDS
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(320))
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
    assert auc(labels, scores.out_of_fold(features, labels, groups)) < 0.7
    assert scores.neighbour_accuracy(features, labels, groups) < 0.7
    assert scores.neighbour_accuracy(features, labels, np.arange(320)) == 1


def test_neighbours_vote_and_the_nearest_decides_a_tie() -> None:
    rng = np.random.default_rng(5)
    labels, groups = rng.integers(3, size=60), rng.integers(12, size=60)
    labels[groups == 0] = 2
    features = rng.normal(size=(60, 5)) + labels[:, None] * rng.normal(size=5)
    unit = scores.standardized(features)
    hits: dict[int, list[bool]] = {0: [], 1: [], 2: []}
    ties = 0
    for index in range(60):
        others = [other for other in range(60) if groups[other] != groups[index]]
        cosine = {o: unit[o] @ unit[index] / np.linalg.norm(unit[o]) / np.linalg.norm(unit[index]) for o in others}
        nearest = [int(labels[other]) for other in sorted(others, key=lambda other: -cosine[other])[:5]]
        most = max(nearest.count(label) for label in range(3))
        winners = [label for label in nearest if nearest.count(label) == most]
        ties += len(set(winners)) > 1
        hits[int(labels[index])].append(winners[0] == labels[index])
    assert ties >= 5
    expected = np.mean([np.mean(hit) for hit in hits.values()])
    assert scores.neighbour_accuracy(features, labels, groups) == pytest.approx(expected)


def test_a_large_group_leaves_few_neighbours() -> None:
    features = np.array([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, -0.1]])
    assert scores.neighbour_accuracy(features, np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0])) == 1


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_head_is_a_logistic_regression_on_standardised_features(n_classes: int) -> None:
    rng = np.random.default_rng(2)
    labels = np.arange(60) ** 2 % 7 % n_classes
    features = rng.normal(3, 5, size=(60, 4)) + labels[:, None]
    features[:, 3] = 7  # constant
    weight, bias = scores.linear_head(features, labels)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000))
    expected = model.fit(features, labels).predict_proba(features)
    assert softmax(features @ weight.T + bias, axis=1) == pytest.approx(expected, abs=1e-4)


def test_separability_by_hand() -> None:
    features = np.array([[0.0], [2.0], [4.0], [6.0]])
    assert scores.separability(features, np.array([0, 0, 1, 1])) == pytest.approx(16 / 20)
    assert scores.separability(np.ones((4, 2)), np.array([0, 0, 1, 1])) == 0


def test_the_subset_is_bounded_has_every_class_and_no_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_SAMPLES", 100)
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 3, 7], [900, 95, 5])
    images = rng.integers(0, 256, (1000, 1, 3, 3), dtype=np.uint8)
    images[10:20] = images[0]
    part = TrainingPart(images, labels, rng.integers(50, size=1000).astype(np.str_))
    subset = probes.probed_subset(part)
    assert np.bincount(subset.labels).tolist() == [90, 20, 5]
    for first, second in zip(subset, probes.probed_subset(shuffled(part)), strict=True):
        assert np.array_equal(first, second)
    renamed = TrainingPart(images, labels, np.char.add("x", part.groups))
    assert np.array_equal(probes.probed_subset(renamed).groups, subset.groups)


@pytest.mark.parametrize("shape", [(3, 9, 8), (1, 8, 8, 8)], ids=["colour", "volumes"])
def test_order_of_the_samples_does_not_matter_in_the_last_bit(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "_SAMPLES", 40)
    part = toy_part(70, *shape)
    part.images[:6] = part.images[0]  # repeated images, of different classes and groups
    found = values(part)
    assert found["random_linear_auc"] is not None
    assert found == values(shuffled(part)) == values(shuffled(part, seed=1))


def test_the_random_net_is_the_same_always_and_everywhere() -> None:
    first = next(random_net(2).backbone.parameters()).flatten()[:4].tolist()
    assert first == pytest.approx([0.0111455, 0.4247012, -0.3354896, 0.4229908], abs=1e-6)
    again, volumes = random_net(2), random_net(3)
    assert sum(p.numel() for p in again.backbone.parameters()) == 9 * (3 * 16 + 16 * 32 + 32 * 64)
    assert sum(p.numel() for p in volumes.backbone.parameters()) == 27 * (3 * 16 + 16 * 32 + 32 * 64)
    layers = [p.flatten()[:9] for p in again.backbone.parameters()]
    assert not torch.allclose(layers[1] / layers[1].norm(), layers[2] / layers[2].norm())


def test_large_images_are_made_small_first() -> None:
    assert random_net(2).views(np.zeros((1, 1, 300, 40), dtype=np.uint8)).shape == (1, 1, 1, 64, 40)
    assert random_net(3).views(np.zeros((1, 1, 64, 5, 20), dtype=np.uint8)).shape == (1, 1, 1, 32, 8, 20)


def direct_fisher(images: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
    """Expected squared gradients of log p(y), one y after the other."""
    net = random_net(2)
    layers = list(net.backbone.parameters())
    total = np.zeros(len(layers))
    for image in images:
        for y in range(len(bias)):
            log_p = (torch.from_numpy(weight) @ net(image[None])[0].double() + torch.from_numpy(bias)).log_softmax(0)[y]
            squares = [float(g.double().square().sum()) for g in torch.autograd.grad(log_p, layers)]
            total += float(log_p.detach().exp()) * np.array(squares)
    return total / len(images)


def test_fisher_information_of_two_classes_is_exact() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    weight, bias = rng.normal(size=(2, 64)), rng.normal(size=2)
    found = random_net(2).fisher_information(images, weight, bias)
    assert found == pytest.approx(direct_fisher(images, weight, bias), rel=1e-4)


def test_fisher_information_of_several_classes_has_no_bias() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 1, 8, 8), dtype=np.uint8)
    weight, bias = rng.normal(size=(4, 64)), rng.normal(size=4)
    found = random_net(2).fisher_information(np.repeat(image, 300, axis=0), weight, bias)
    assert found == pytest.approx(direct_fisher(image, weight, bias), rel=0.15)


def test_probes_leave_no_trace_in_the_process() -> None:
    before = torch.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()  # noqa: NPY002
    torch.set_num_threads(2)
    try:
        values(toy_part(20, 1, 8, 8))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert not torch.are_deterministic_algorithms_enabled()


def test_few_groups_and_missing_weights_are_null_with_their_reason() -> None:
    measured = measure(toy_part(40, 1, 8, 8, n_groups=8))  # four groups of each class
    assert measured.reasons["random_linear_auc"] == "a class has fewer than 5 groups in the training part"
    assert "random_knn_balanced_accuracy" not in measured.reasons
    assert all("needs pretrained weights" in measured.reasons[name] for name in DESCRIPTORS if name[:8] == "imagenet")
    alone = measure(toy_part(40, 1, 8, 8, n_groups=2)).reasons
    assert "fewer than 2 groups" in alone["random_knn_balanced_accuracy"]


def test_damaged_weights_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "shufflenetv2_x0_5_trunk_imagenet").mkdir()
    part = toy_part(4, 1, 8, 8)
    part = TrainingPart(part.images, part.labels, part.groups, weights_root=tmp_path)
    logme = DESCRIPTORS["imagenet_logme"].function
    with pytest.raises(Undefined, match="not found"):
        logme(part)
    (tmp_path / "shufflenetv2_x0_5_trunk_imagenet" / "shufflenetv2_x0_5_trunk.safetensors").write_bytes(b"damaged")
    with pytest.raises(InvalidData, match="SHA-256 differs"):
        logme(part)


def test_pretrained_probes_of_a_real_dataset(data_root: Path, weights_root: Path) -> None:
    data = prepare(load_card("head_ct_hemorrhage"), data_root, (64, 64))
    part = TrainingPart.of(data, roles(data, 0), weights_root)
    again = shuffled(part)
    pretrained = [descriptor for name, descriptor in DESCRIPTORS.items() if name.startswith("imagenet")]
    found = {descriptor.name: descriptor.function(part) for descriptor in pretrained}
    assert found == {descriptor.name: descriptor.function(again) for descriptor in pretrained}
    assert found["imagenet_linear_auc"] == pytest.approx(0.87, abs=0.05)
    assert found["imagenet_knn_balanced_accuracy"] == pytest.approx(0.72, abs=0.08)
    assert sum(found[f"imagenet_fisher_{third}"] for third in ("early", "middle", "late")) == pytest.approx(1)


def test_a_volume_of_one_image_has_the_features_of_the_image(weights_root: Path) -> None:
    net = imagenet_net(weights_root)
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 40, 30), dtype=np.uint8)
    volumes = np.repeat(images[:, :, None], 9, axis=2)
    assert net.features(volumes) == pytest.approx(net.features(images), rel=1e-4, abs=1e-5)
