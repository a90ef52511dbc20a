"""Small networks in plain numpy: layers with their derivatives, on parameters that lie in one flat vector.

Batches here are of tens of points and layers of tens of units, so that what a step takes is the number of operations
called. Written out, a step of a predictor takes a fraction of what it takes through a framework.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from metaquery.optimizers.quicktune.encoding import Array

_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # Adam


class Parameters:
    """Named arrays that are views of the vector `flat`."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.flat = np.zeros(sum(int(np.prod(shape)) for shape in shapes.values()))
        self._parts: dict[str, Array] = {}
        start = 0
        for name, shape in shapes.items():
            end = start + int(np.prod(shape))
            self._parts[name] = self.flat[start:end].reshape(shape)
            start = end

    def __getitem__(self, name: str) -> Array:
        return self._parts[name]

    def draw(self, rng: np.random.Generator) -> None:
        """Random numbers for all layers, uniform up to one over the root of a layer's number of inputs."""
        for name, part in self._parts.items():
            layer, _, kind = name.rpartition(".")
            if kind in ("weight", "bias"):
                bound = 1.0 / np.sqrt(len(self._parts[f"{layer}.weight"]))
                part[...] = rng.uniform(-bound, bound, part.shape)

    def arrays(self) -> dict[str, Array]:
        """Copies of all parts by name."""
        return {name: part.copy() for name, part in self._parts.items()}

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Set all parts; ValueError unless names and shapes are those of this."""
        if {name: part.shape for name, part in self._parts.items()} != {n: a.shape for n, a in arrays.items()}:
            raise ValueError("other names or shapes")
        for name, part in self._parts.items():
            part[...] = arrays[name]

    def like(self) -> Parameters:
        """Zeros of the same names and shapes, for gradients."""
        return Parameters({name: part.shape for name, part in self._parts.items()})


class Adam:
    """Kingma and Ba, 2015, with the usual constants."""

    def __init__(self, parameters: Parameters) -> None:
        self._flat = parameters.flat
        self._first, self._second = np.zeros_like(self._flat), np.zeros_like(self._flat)
        self._steps = 0

    def step(self, gradient: Parameters, rate: float) -> None:
        """One step of learning rate `rate` down `gradient`."""
        self._steps += 1
        one, two = _BETAS
        self._first += (1.0 - one) * (gradient.flat - self._first)
        self._second += (1.0 - two) * (gradient.flat**2 - self._second)
        scale = np.sqrt(self._second / (1.0 - two**self._steps)) + _EPSILON
        self._flat -= rate / (1.0 - one**self._steps) * self._first / scale


def linear(p: Parameters, layer: str, x: Array) -> Array:
    """`x`, shape (..., n_in), through the layer, shape (..., n_out)."""
    y: Array = x @ p[f"{layer}.weight"] + p[f"{layer}.bias"]
    return y


def linear_back(p: Parameters, grad: Parameters, layer: str, x: Array, dy: Array) -> Array:
    """The derivative by `x`, shape (n, n_in), from `dy`, that by the output; sets the layer's part of `grad`."""
    np.matmul(x.T, dy, out=grad[f"{layer}.weight"])
    dy.sum(axis=0, out=grad[f"{layer}.bias"])
    dx: Array = dy @ p[f"{layer}.weight"].T
    return dx


@cache
def _threads() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Linear algebra on one thread: all here is too small for a second to pay, and the bytes are the same anywhere."""
    with _threads().limit(limits=1):
        yield
