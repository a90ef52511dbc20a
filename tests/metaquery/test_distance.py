"""Gower's distance between configs."""

from __future__ import annotations

import numpy as np

from metaquery.space import Condition, Distances, Hyperparameter, SearchSpace

SPACE = SearchSpace(
    "distances",
    (
        Hyperparameter("kind", "categorical", "a", choices=("a", "b", "c")),
        Hyperparameter("rate", "float", 0.0, low=0.0, high=10.0),
        Hyperparameter("only_a", "float", 0.0, low=0.0, high=1.0, condition=Condition("kind", ("a",))),
    ),
)


def test_distances_by_hand() -> None:
    configs = [
        SPACE.config({"kind": "a", "rate": 0.0, "only_a": 0.5}),
        SPACE.config({"kind": "b", "rate": 10.0}),
        SPACE.config({"kind": "c", "rate": 5.0}),
    ]
    distances = Distances(SPACE, configs)

    # category 0 or 1, not 1/3 or 2/3; one inactive counts 1, both inactive 0
    np.testing.assert_allclose(distances(SPACE.config({"kind": "a", "rate": 4.0, "only_a": 0.0})), [0.9, 2.6, 2.1])
    np.testing.assert_allclose(distances(SPACE.config({"kind": "b", "rate": 5.0})), [2.5, 0.5, 1.0])
