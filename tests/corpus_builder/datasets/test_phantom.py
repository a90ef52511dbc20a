from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from corpus_builder.datasets import Card, load_card, prepare, roles
from corpus_builder.datasets.formats import read


def phantom(**generator: Any) -> Card:
    card = load_card("phantom_nodules3d")
    return replace(card, generator={**card.generator, **generator})


def test_same_seed_same_bytes_other_seed_others() -> None:
    first, again, other = (read(phantom(seed=seed), None) for seed in (0, 0, 1))
    assert first.images.tobytes() == again.images.tobytes()
    assert first.labels.tolist() == again.labels.tolist()
    assert first.groups.tolist() == again.groups.tolist()
    assert first.images.tobytes() != other.images.tobytes()


def test_it_is_what_its_card_says_and_splits_without_a_data_root() -> None:
    card = phantom()
    prepared = prepare(card, None, (24, 24, 24))
    assert prepared.images.shape == (240, 1, 24, 24, 24)
    assert np.bincount(prepared.labels).tolist() == [120, 120]
    assert len(set(prepared.groups.tolist())) == card.n_groups == 80
    assert set(roles(prepared, 4).tolist()) == {"train", "val", "test"}
    assert prepare(card, None, (16, 16, 16)).size == (16, 16, 16)


def test_lesions_are_brighter_than_their_surroundings() -> None:
    images = read(phantom(), None).images.astype(float)
    border = np.ones(images.shape[1:], dtype=bool)
    border[3:-3, 3:-3, 3:-3] = False
    contrast = images[:, 10:14, 10:14, 10:14].mean((1, 2, 3)) - images[:, border].mean(1)
    assert (contrast > 20).all()


def test_size_and_brightness_do_not_give_the_class_away() -> None:
    from sklearn.metrics import roc_auc_score

    raw = read(phantom(difficulty=0.0), None)
    volume = (raw.images > 130).sum((1, 2, 3))
    middle = raw.images[:, 10:14, 10:14, 10:14].mean((1, 2, 3))
    for cue in (volume, middle):
        assert 0.35 < roc_auc_score(raw.labels, cue) < 0.65


def test_patients_differ_from_each_other_more_than_their_samples() -> None:
    raw = read(phantom(), None)
    level = raw.images[:, :3].mean((1, 2, 3))
    members = [level[raw.groups == group] for group in np.unique(raw.groups)]
    within = np.mean([part.var() for part in members if len(part) > 1])
    assert np.var([part.mean() for part in members]) > 5 * within


def probe_auc(difficulty: float) -> float:
    """Grouped cross-validated AUC of logistic regression on mean and spread of the intensity in spherical shells."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    raw = read(phantom(difficulty=difficulty), None)
    centre = np.indices(raw.images.shape[1:]) - (np.array(raw.images.shape[1:]).reshape(3, 1, 1, 1) - 1) / 2
    shell = np.linalg.norm(centre, axis=0).astype(int)
    shells = [raw.images[:, shell == radius].astype(float) for radius in range(12)]
    features = np.stack([statistic(values, axis=1) for values in shells for statistic in (np.mean, np.std)], axis=1)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    scores = cross_val_predict(model, features, raw.labels, groups=raw.groups, cv=GroupKFold(5), method="predict_proba")
    return float(roc_auc_score(raw.labels, scores[:, 1]))


def test_difficulty_makes_a_simple_probe_worse() -> None:
    easy, middle, hard = map(probe_auc, (0.0, 0.5, 1.0))
    assert easy > 0.9
    assert easy > middle + 0.05
    assert middle > hard + 0.05


@pytest.mark.parametrize("shape", [[12, 12, 12], [16, 20, 24]])
def test_other_shapes(shape: list[int]) -> None:
    assert list(read(phantom(shape=shape), None).images.shape[1:]) == shape
