"""An ensemble of small fully connected networks in NumPy: trained together, each on its own order of the data.

Two hidden layers of rectified linear units with dropout, AdamW (Loshchilov and Hutter, ICLR 2019) and a learning rate
that rises for a hundred steps and then falls as half a cosine. The members differ by their initial weights, their order
of the data and their dropout (Lakshminarayanan et al., NeurIPS 2017).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Single = NDArray[np.float32]
Progress = Callable[[int, int], None]  # steps done, of how many


class Loss(Protocol):
    """Gradient of the mean loss of a batch with respect to the outputs."""

    def __call__(self, outputs: Single, rows: NDArray[np.int64]) -> Single:
        """For `outputs` (members, batch, n_outputs) of the training samples `rows` (members, batch); same shape."""


@dataclass(frozen=True)
class Settings:
    """How networks are built and trained. `steps` are at most that many, at least what `epochs` over the data are."""

    members: int = 5
    hidden: int = 64
    epochs: int = 400
    max_steps: int = 30_000
    batch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    dropout: float = 0.05


@dataclass(frozen=True)
class Network:
    """`weights` (members, in, out) and `biases` (members, 1, out) of three layers."""

    weights: tuple[Single, ...]
    biases: tuple[Single, ...]

    def __call__(self, inputs: Single) -> Single:
        """Outputs (members, n, n_outputs) for `inputs` (n, n_inputs)."""
        h = inputs[None]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = np.maximum(h @ weight + bias, 0.0)
        outputs: Single = h @ self.weights[-1] + self.biases[-1]
        return outputs


def train(inputs: Single, n_outputs: int, loss: Loss, settings: Settings, seed: int, progress: Progress) -> Network:
    """Train an ensemble on `inputs` (n, n_inputs), whose targets `loss` knows."""
    rng = np.random.default_rng(seed)
    n, members = len(inputs), settings.members
    sizes = [inputs.shape[1], settings.hidden, settings.hidden, n_outputs]
    weights = []
    for fan_in, fan_out in pairwise(sizes):
        scale = np.sqrt(2.0 / fan_in) if fan_out == settings.hidden else np.sqrt(0.1 / fan_in)
        weights.append(rng.normal(0.0, scale, (members, fan_in, fan_out)).astype(np.float32))
    biases = [np.zeros((members, 1, size), np.float32) for size in sizes[1:]]
    batch = min(settings.batch, n)
    per_epoch = n // batch
    steps = min(max(settings.epochs * per_epoch, 2000), settings.max_steps)
    update = _AdamW([*weights, *biases], len(weights), settings, steps)
    keep = np.float32(1.0 - settings.dropout)
    for step in range(steps):
        if step % per_epoch == 0:
            order = np.stack([rng.permutation(n) for _ in range(members)])
        at = step % per_epoch * batch
        rows = order[:, at : at + batch]
        layers, slopes = [inputs[rows]], []
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            z = layers[-1] @ weight + bias
            slope = (z > 0) * ((rng.random(z.shape, np.float32) < keep) / keep)
            layers.append(z * slope)
            slopes.append(slope)
        gradient = loss(layers[-1] @ weights[-1] + biases[-1], rows)
        gradients: list[Single] = []
        for position in (2, 1, 0):
            gradients = [layers[position].transpose(0, 2, 1) @ gradient, *gradients, gradient.sum(1, keepdims=True)]
            if position:
                gradient = (gradient @ weights[position].transpose(0, 2, 1)) * slopes[position - 1]
        update(gradients[:3] + gradients[:2:-1], step)
        progress(step + 1, steps)
    return Network(tuple(weights), tuple(biases))


class _AdamW:
    """Changes `parameters` in place; the first `decayed` of them are decayed."""

    def __init__(self, parameters: list[Single], decayed: int, settings: Settings, steps: int) -> None:
        self._parameters, self._decayed, self._settings, self._steps = parameters, decayed, settings, steps
        self._mean = [np.zeros_like(p) for p in parameters]
        self._square = [np.zeros_like(p) for p in parameters]

    def __call__(self, gradients: list[Single], step: int) -> None:
        rate = self._settings.learning_rate * 0.5 * (1.0 + np.cos(np.pi * step / self._steps))
        rate *= min(1.0, (step + 1) / 100)
        unbias_mean, unbias_square = 1.0 - 0.9 ** (step + 1), 1.0 - 0.995 ** (step + 1)
        for position, (p, g) in enumerate(zip(self._parameters, gradients, strict=True)):
            mean, square = self._mean[position], self._square[position]
            mean += np.float32(0.1) * (g - mean)
            square += np.float32(0.005) * (g * g - square)
            decay = 1.0 - rate * self._settings.weight_decay if position < self._decayed else 1.0
            change = np.float32(rate / unbias_mean) * mean / (np.sqrt(square / np.float32(unbias_square)) + 1e-8)
            p[...] = p * np.float32(decay) - change
