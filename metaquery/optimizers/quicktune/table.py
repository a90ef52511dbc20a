"""The learning curves of one dataset, encoded: what the predictors are trained and fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaquery.optimizers.quicktune.encoding import Array, Encoder
from metaquery.space import Config

Indices = NDArray[np.int64]


class Points(NamedTuple):
    """Inputs of a predictor, float64: n configs, each at the epoch whose outcome is asked for."""

    backbones: Array  # (n, n_backbones)
    others: Array  # (n, n_others)
    epochs: Array  # (n,), as shares of the full fidelity
    prefixes: Array  # (n, epochs), scores of the epochs before, padded with zeros
    started: NDArray[np.bool_]  # (n,), whether there is an epoch before
    metafeatures: Array  # (n_metafeatures,)


class Table:
    """Configs of one dataset with the losses and seconds of the epochs run so far; NaN where not run.

    `losses` and `seconds` have shape (configs, epochs of the encoder) and are filled by their owner.
    """

    def __init__(self, encoder: Encoder, configs: Sequence[Config], metafeatures: Mapping[str, float]) -> None:
        backbones, others = encoder.configs(configs)
        self.encoder = encoder
        self.losses = np.full((len(configs), encoder.epochs), np.nan)
        self.seconds = np.full((len(configs), encoder.epochs), np.nan)
        self._backbones = backbones
        self._others = others
        self._metafeatures = encoder.metafeatures(metafeatures)

    def __len__(self) -> int:
        return len(self.losses)

    def observed(self) -> tuple[Indices, Indices]:
        """Rows and epochs (1-based) of all losses whose whole prefix is known, in the order of rows."""
        rows, columns = np.nonzero(np.logical_and.accumulate(np.isfinite(self.losses), axis=1))
        return rows, columns + 1

    def points(self, rows: Indices, epochs: Indices) -> Points:
        """The inputs for the outcome of `epochs` (1-based) of the configs at `rows`, both of shape (n,)."""
        before = np.arange(self.encoder.epochs) < (epochs - 1)[:, None]
        prefixes = np.where(before, self.encoder.losses.scores(self.losses[rows]), 0.0)
        return Points(
            self._backbones[rows],
            self._others[rows],
            epochs / self.encoder.epochs,
            prefixes,
            epochs > 1,
            self._metafeatures,
        )

    def losses_at(self, rows: Indices, epochs: Indices) -> Array:
        """The losses there, shape (n,)."""
        losses: Array = self.losses[rows, epochs - 1]
        return losses

    def seconds_at(self, rows: Indices, epochs: Indices) -> Array:
        """The seconds of those epochs, shape (n,)."""
        seconds: Array = self.seconds[rows, epochs - 1]
        return seconds
