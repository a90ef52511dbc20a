"""Every random decision of a trial's training, from generators of its own.

Data order, augmentation, mixing and layers each have a stream, so that none depends on what another one draws, on the
network's initialisation, or on which other trials are trained at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from corpus_builder.recipe.augmentation import Legal, Transform, draw
from corpus_builder.recipe.mixing import Mix, draw_mix
from corpus_builder.recipe.sampling import epoch_order
from corpus_builder.recipe.stochastic import Random
from metaquery.space import Config


@dataclass(frozen=True, slots=True)
class Draw:
    """What one step drew: how images are transformed and mixed, and the values of the random layers' buffers."""

    transform: Transform | None
    mix: Mix | None
    layers: Mapping[str, Tensor]


class Stream:
    """The random decisions of one trial, in the order in which it makes them."""

    def __init__(
        self,
        config: Config,
        seed: int,
        labels: Tensor,
        size: Sequence[int],
        legal: Legal,
        layers: Mapping[str, Random],
    ) -> None:
        """For training samples with `labels` (n,) on the CPU and the spatial shape `size`."""
        self._config, self._labels, self._size, self._legal, self._layers = config, labels, size, legal, layers
        self._order, self._augmentation, self._layer = (torch.Generator().manual_seed(seed + k) for k in range(3))
        self._mixing = np.random.default_rng(seed)

    def epoch(self) -> Tensor:
        """Indices of the samples of the next epoch, (n,)."""
        return epoch_order(self._config, self._labels, self._order)

    def step(self, n: int) -> Draw:
        """What the next batch of `n` samples needs."""
        return Draw(
            draw(str(self._config["augmentation"]), n, self._size, self._legal, self._augmentation),
            draw_mix(self._config, n, self._size, self._mixing),
            {name: layer.draw(n, self._layer) for name, layer in self._layers.items()},
        )

    def state(self) -> dict[str, Any]:
        """What `load` needs to go on from here."""
        generators = (self._order, self._augmentation, self._layer)
        return {"torch": [g.get_state() for g in generators], "numpy": self._mixing.bit_generator.state}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        for generator, saved in zip((self._order, self._augmentation, self._layer), state["torch"], strict=True):
            generator.set_state(saved)
        self._mixing.bit_generator.state = state["numpy"]
