"""From a feature table to class probabilities: scikit-learn pipelines, and what a config means for them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaquery.space import Config

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from corpus_builder.backbones.spec import Classifier

_CALIBRATION_FOLDS = 5


def fit(
    features: NDArray[np.float64], labels: NDArray[np.int64], classifier: Classifier, config: Config, seed: int
) -> Pipeline:
    """A pipeline fitted to `features` (n, n_features), which may hold NaN, and `labels` (n,).

    A missing value becomes its feature's median, constant features go, and the others get mean 0 and variance 1; then
    come the config's selection and classifier. Raises ValueError where scikit-learn cannot fit, above all where no
    feature varies, and ConvergenceWarning where the solver of the logistic regression gives up.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_selection import VarianceThreshold
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    clean = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True), VarianceThreshold(), StandardScaler()
    )
    varying = clean.fit_transform(features)
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("error", ConvergenceWarning)
        steps = [*_selection(config, varying.shape), _classifier(classifier, config, labels, seed)]
        return make_pipeline(clean, make_pipeline(*steps).fit(varying, labels))


def _selection(config: Config, shape: tuple[int, ...]) -> list[Any]:
    from sklearn.decomposition import PCA
    from sklearn.feature_selection import SelectKBest

    if config["feature_selection"] == "none":
        return []
    n_features = int(config["n_features"])
    if config["feature_selection"] == "pca":
        return [PCA(min(n_features, *shape), svd_solver="full")]
    return [SelectKBest(k=min(n_features, shape[1]))]  # by f_classif, infinite where a feature separates the classes


def _classifier(classifier: Classifier, config: Config, labels: NDArray[np.int64], seed: int) -> Any:
    class_weight = None if config["class_weight"] == "none" else str(config["class_weight"])
    if classifier == "rf":
        from sklearn.ensemble import RandomForestClassifier

        trees, share = int(config["n_trees"]), float(config["max_features"])
        return RandomForestClassifier(trees, max_features=share, class_weight=class_weight, random_state=seed)
    penalty = float(config["regularization"])
    if classifier == "logreg":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=penalty, class_weight=class_weight, max_iter=10_000)
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import StratifiedKFold
    from sklearn.svm import SVC

    # Platt's probabilities: a sigmoid over the margins of held-out parts, the machine itself fitted to all samples
    folds = min(_CALIBRATION_FOLDS, int(np.unique(labels, return_counts=True)[1].min()))
    return CalibratedClassifierCV(
        SVC(C=penalty, class_weight=class_weight),
        cv=StratifiedKFold(folds, shuffle=True, random_state=seed),
        ensemble=False,
    )
