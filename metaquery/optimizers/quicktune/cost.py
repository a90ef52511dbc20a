"""The cost predictor: the seconds that the next epoch of a config takes."""

from __future__ import annotations

import numpy as np

from metaquery.optimizers.quicktune.encoding import Array
from metaquery.optimizers.quicktune.extractor import WIDTH, Shape, extract, extract_back
from metaquery.optimizers.quicktune.network import Parameters, linear
from metaquery.optimizers.quicktune.table import Points


class CostPredictor:
    """The performance predictor's extractor, with weights of its own, and a head for log seconds.

    The paper's head is a ReLU on seconds; the logarithm keeps predictions above zero, where they are divided by,
    and makes a second of a small backbone count as much as a minute of a large one. `offset` is the mean log of the
    seconds that it is fitted to.
    """

    def __init__(self, shape: Shape, rng: np.random.Generator) -> None:
        self._shape = shape
        self.parameters = Parameters({**shape.parameters, "head.weight": (WIDTH, 1), "head.bias": (1,), "offset": ()})
        self.parameters.draw(rng)

    def log_seconds(self, points: Points) -> Array:
        """Shape (n,)."""
        features, _ = extract(self._shape, self.parameters, points)
        logs: Array = self.parameters["offset"] + linear(self.parameters, "head", features)[:, 0]
        return logs

    def centre(self, seconds: Array) -> None:
        """Set `offset` by `seconds`, any shape; those that are not positive numbers are left out."""
        known = seconds[seconds > 0]
        if len(known):
            self.parameters["offset"][...] = np.log(known).mean()

    def loss(
        self,
        points: Points,
        seconds: Array,
        /,
        gradient: Parameters | None = None,
        dropout: np.random.Generator | None = None,
    ) -> float:
        """Mean squared error of the log of `seconds`, shape (n,), over those that are positive numbers.

        Sets `gradient`, where given, but for the offset, which `centre` alone sets.
        """
        p = self.parameters
        features, kept = extract(self._shape, p, points, dropout)
        known = seconds > 0
        logs = p["offset"] + linear(p, "head", features)[:, 0]
        errors = np.where(known, logs - np.log(np.where(known, seconds, 1.0)), 0.0)
        count = max(int(known.sum()), 1)
        if gradient is not None:
            dlogs = 2.0 / count * errors
            gradient["head.weight"][:, 0] = dlogs @ features
            gradient["head.bias"][0] = dlogs.sum()
            extract_back(self._shape, p, gradient, points, kept, np.outer(dlogs, p["head.weight"][:, 0]))
        return float(errors @ errors) / count
