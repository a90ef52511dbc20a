"""Fitting the two predictors to points: the steps that meta-training and refits share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def descend(model: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float) -> None:
    """`steps` of Adam on `loss`, at a constant learning rate `rate`; `model` is left in evaluation mode."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    model.eval()
