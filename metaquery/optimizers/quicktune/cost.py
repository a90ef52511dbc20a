"""The cost predictor: the seconds that the next epoch of a config takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metaquery.optimizers.quicktune.extractor import WIDTH, Extractor, Shape
from metaquery.optimizers.quicktune.table import Points


class CostPredictor(nn.Module):
    """The performance predictor's extractor, with weights of its own, and a head for log seconds.

    The paper's head is a ReLU on seconds; the logarithm keeps predictions above zero, where they are divided by,
    and makes a second of a small backbone count as much as a minute of a large one. `offset` is the mean log of the
    seconds that it is fitted to.
    """

    offset: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.extractor = Extractor(shape)
        self.head = nn.Linear(WIDTH, 1, dtype=torch.float64)
        self.register_buffer("offset", torch.zeros((), dtype=torch.float64))

    def forward(self, points: Points) -> Tensor:
        """Log seconds, shape (n,)."""
        logs: Tensor = self.offset + self.head(self.extractor(points)).squeeze(1)
        return logs

    def centre(self, seconds: Tensor) -> None:
        """Set `offset` by `seconds`, any shape; those that are not positive numbers are left out."""
        known = seconds[seconds > 0]
        if len(known):
            self.offset.copy_(known.log().mean())

    def squared_error(self, points: Points, seconds: Tensor) -> Tensor:
        """Mean squared error of the log of `seconds`, shape (n,), over those that are positive numbers."""
        known = seconds > 0
        errors = (self(points) - torch.where(known, seconds, 1.0).log()) ** 2
        mean: Tensor = (errors * known).sum() / known.sum().clamp(min=1)
        return mean
