"""Fitting a predictor to points, step by step: what meta-training and refits share."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from metaquery.optimizers.quicktune.encoding import Array
from metaquery.optimizers.quicktune.network import Adam, Parameters
from metaquery.optimizers.quicktune.table import Points


class Predictor(Protocol):
    """What can be fitted."""

    parameters: Parameters

    def loss(
        self,
        points: Points,
        values: Array,
        /,
        gradient: Parameters | None = None,
        dropout: np.random.Generator | None = None,
    ) -> float:
        """How badly `values`, shape (n,), are predicted; sets `gradient` where given; with `dropout` as in training."""


class Fit:
    """Adam at work on a predictor."""

    def __init__(self, model: Predictor) -> None:
        self._model = model
        self._adam = Adam(model.parameters)
        self._gradient = model.parameters.like()

    def step(self, points: Points, values: Array, rate: float, rng: np.random.Generator) -> None:
        """One step of learning rate `rate`."""
        self._model.loss(points, values, self._gradient, rng)
        self._adam.step(self._gradient, rate)
