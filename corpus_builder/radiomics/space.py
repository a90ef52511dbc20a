"""The hyperparameters of classical members."""

from __future__ import annotations

from collections.abc import Sequence

from corpus_builder.backbones import ClassicalSpec
from metaquery.space import Condition, Hyperparameter


def radiomics_hyperparameters(members: Sequence[ClassicalSpec]) -> list[Hyperparameter]:
    """What is tuned of `members`; what each hyperparameter does is in `corpus_builder.radiomics.model`."""

    def only(*classifiers: str) -> Condition:
        return Condition("backbone", tuple(member.name for member in members if member.classifier in classifiers))

    hyperparameters = [
        Hyperparameter(
            "feature_selection",
            "categorical",
            default="none",
            choices=("none", "univariate", "pca"),
            description="All features, those with the largest F statistic, or the first principal components.",
        ),
        Hyperparameter(
            "n_features",
            "integer",
            default=30,
            low=5,
            high=100,
            log=True,
            condition=Condition("feature_selection", ("univariate", "pca")),
            description="How many features or components are kept, if there are so many.",
        ),
        Hyperparameter(
            "class_weight",
            "categorical",
            default="none",
            choices=("none", "balanced"),
            description="Samples weigh the same, or in inverse proportion to the frequency of their class.",
        ),
        Hyperparameter(
            "regularization",
            "float",
            default=1.0,
            low=1e-4,
            high=1e3,
            log=True,
            grid=(0.01, 1.0, 100.0),
            condition=only("logreg", "svm"),
            description="Inverse strength C of the penalty: the larger, the closer the fit to the training part.",
        ),
        Hyperparameter(
            "n_trees",
            "integer",
            default=200,
            low=50,
            high=500,
            log=True,
            condition=only("rf"),
            description="Trees of the forest.",
        ),
        Hyperparameter(
            "max_features",
            "float",
            default=0.1,
            low=0.02,
            high=1.0,
            log=True,
            grid=(0.03, 0.1, 0.3),
            condition=only("rf"),
            description="Share of the features that each split of a tree chooses from.",
        ),
    ]
    return [hp for hp in hyperparameters if hp.condition is None or hp.condition.values]
