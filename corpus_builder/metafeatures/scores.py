"""How well features tell classes apart: arrays in, numbers out.

`features` is (n, features) float64, `labels` (n,) whole numbers from 0 without gaps, `groups` (n,) whole numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metaquery.metrics import balanced_accuracy

FOLDS = 5
_NEIGHBOURS = 5
_INVERSE_PENALTY = 0.1  # C of scikit-learn; of 0.001 to 1, best or nearly so on ten medical datasets
_LOG_RATIOS = np.linspace(np.log(1e-8), np.log(1e4), 61)

Features = NDArray[np.float64]
Labels = NDArray[np.int64]


def standardized(features: Features) -> Features:
    """`features` with mean 0 and standard deviation 1 each; those that are constant are 0."""
    deviation = features.std(axis=0)
    return np.asarray((features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0))


def neighbour_accuracy(features: Features, labels: Labels, groups: Labels) -> float:
    """Balanced accuracy of the five nearest neighbours, by the cosine of standardised features, in other groups.

    The majority decides; where two classes have as many votes, the one whose neighbours are nearer.
    """
    unit = standardized(features)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    similarity = np.where(groups[:, None] == groups, -np.inf, unit @ unit.T)
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :_NEIGHBOURS]
    by_rank = 1 + 0.5 ** np.arange(1, nearest.shape[1] + 1)  # what is above 1 adds up to less than one vote
    weights = np.where(np.isfinite(np.take_along_axis(similarity, nearest, axis=1)), by_rank, 0.0)
    votes = np.zeros((len(labels), int(labels.max()) + 1))
    np.add.at(votes, (np.arange(len(labels))[:, None], labels[nearest]), weights)
    return balanced_accuracy(labels, votes)


def grouped_folds(labels: Labels, groups: Labels) -> list[tuple[Labels, Labels]]:
    """Indices of the training and the test samples of FOLDS stratified folds of whole groups."""
    from sklearn.model_selection import StratifiedGroupKFold

    return list(StratifiedGroupKFold(FOLDS).split(np.zeros(len(labels)), labels, groups))


def linear_head(features: Features, labels: Labels) -> tuple[Features, Features]:
    """Weights (classes, features) and biases (classes,) of a logistic regression on the standardised features.

    Every class has the same weight in its loss. The head takes features that are not standardised.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=_INVERSE_PENALTY, class_weight="balanced", max_iter=2000)
    model.fit(standardized(features), labels)
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:  # for two classes scikit-learn keeps the logit of the second
        weight, bias = np.vstack([0 * weight, weight]), np.append(0.0, bias)
    deviation = features.std(axis=0)
    weight = weight / np.where(deviation > 0, deviation, 1.0)
    return weight, bias - weight @ features.mean(axis=0)


def out_of_fold(features: Features, labels: Labels, groups: Labels) -> Features:
    """Class probabilities (n, classes) of each sample by the `linear_head` of the folds that it is not in."""
    from scipy.special import softmax

    probabilities = np.zeros((len(labels), int(labels.max()) + 1))
    for train, test in grouped_folds(labels, groups):
        present, known = np.unique(labels[train], return_inverse=True)
        weight, bias = linear_head(features[train], known)
        probabilities[np.ix_(test, present)] = softmax(features[test] @ weight.T + bias, axis=1)
    return probabilities


def logme(features: Features, labels: Labels) -> float:
    """Logarithm of the maximum evidence (You et al., ICML 2021), for each sample, mean over the classes, in nats.

    A class's indicator is taken for a linear function of the features, whose weights have a Gaussian prior of precision
    alpha, plus noise of precision beta. For a ratio alpha / beta the best beta has a closed form, so the maximum over
    both is found along one line: between 1e-8 and 1e4 times the largest eigenvalue of the features' Gram matrix.
    """
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    targets = np.eye(int(labels.max()) + 1)[labels]
    projections = (left.T @ targets) ** 2
    rests = np.maximum(targets.sum(axis=0) - projections.sum(axis=0), 0.0)
    evidences = [
        _evidence(np.square(singular), *target, len(labels)) for target in zip(projections.T, rests, strict=True)
    ]
    return float(np.mean(evidences)) / len(labels)


def _evidence(eigenvalues: Features, projections: Features, rest: float, n: int) -> float:
    """Maximum log evidence of a target of `n` values, by its squared projections and what they leave."""
    from scipy.optimize import minimize_scalar

    scale = eigenvalues.max() or 1.0

    def loss(log_ratio: float) -> float:
        ratio = scale * np.exp(log_ratio)
        residual = (projections * ratio / (ratio + eigenvalues)).sum() + rest
        return float(0.5 * (n * (np.log(2 * np.pi * residual / n) + 1) + np.log1p(eigenvalues / ratio).sum()))

    best = int(np.argmin([loss(log_ratio) for log_ratio in _LOG_RATIOS]))
    bounds = (_LOG_RATIOS[max(best - 1, 0)], _LOG_RATIOS[min(best + 1, len(_LOG_RATIOS) - 1)])
    return -float(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).fun)


def separability(features: Features, labels: Labels) -> float:
    """Share of the standardised features' scatter that lies between the classes, from 0 to 1."""
    scaled = standardized(features)
    total = (scaled**2).sum()
    between = sum(
        (labels == label).sum() * (scaled[labels == label].mean(axis=0) ** 2).sum() for label in np.unique(labels)
    )
    return float(between / total) if total > 0 else 0.0


def silhouette(features: Features, labels: Labels) -> float:
    """Mean silhouette (Rousseeuw, J. Comput. Appl. Math. 1987) of the classes in the standardised features."""
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(standardized(features), labels))
