"""Exponential moving average of a model's weights."""

from __future__ import annotations

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class AveragedModel(Generic[M]):
    """A model, and what it is evaluated with: itself, or the exponential moving average of its weights.

    The decay of the average is min(decay, (1 + t) / (10 + t)) after t steps, so that it forgets the start (as in
    TensorFlow's ExponentialMovingAverage); floating-point buffers, the statistics of BatchNorm, are averaged alike.
    """

    def __init__(self, model: M, decay: float) -> None:
        self.decay = decay
        self._steps = 0
        self._model = model
        self._average = copy.deepcopy(model) if decay else model

    @property
    def evaluated(self) -> M:
        """The model to predict with."""
        return self._average

    @torch.no_grad()
    def update(self) -> None:
        """Take in the model's weights after a step."""
        if not self.decay:
            return
        self._steps += 1
        decay = average_decay(self.decay, self._steps)
        current = self._model.state_dict()
        for name, value in self._average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[name], 1 - decay)
            else:
                value.copy_(current[name])

    def state(self) -> dict[str, Any]:
        """What `load` needs to go on from here; empty where nothing is averaged."""
        return {"steps": self._steps, "average": self._average.state_dict()} if self.decay else {}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        if self.decay:
            self._steps = state["steps"]
            self._average.load_state_dict(state["average"])


def average_decay(decay: float, steps: int) -> float:
    """The decay that is used in step `steps`, counted from 1."""
    return min(decay, (1 + steps) / (10 + steps))
