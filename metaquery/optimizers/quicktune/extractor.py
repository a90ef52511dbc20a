"""The feature extractor that both predictors of Quick-Tune have (Arango et al., ICLR 2024, after DyHPO)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metaquery.optimizers.quicktune.encoding import Encoder
from metaquery.optimizers.quicktune.table import Points

WIDTH = 32
_CURVE_CHANNELS, _CURVE_WIDTH, _META_WIDTH = 8, 16, 4
_DROPOUT = 0.2


@dataclass(frozen=True)
class Shape:
    """Sizes of a predictor's inputs, and which of them it reads."""

    n_backbones: int
    n_others: int
    epochs: int
    n_metafeatures: int  # 0 to read none
    grey_box: bool  # whether it reads the curve so far


def shape_of(encoder: Encoder, *, grey_box: bool) -> Shape:
    """The shape of predictors that read what `encoder` writes."""
    return Shape(encoder.n_backbones, encoder.n_others, encoder.epochs, len(encoder.metafeatures.names), grey_box)


@contextmanager
def contained(seed: int) -> Iterator[None]:
    """Run torch on one thread and on random numbers from `seed`, and leave its settings as they were.

    Everything here is far too small for a second thread to pay, and one thread gives the same bytes everywhere.
    """
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


class Extractor(nn.Module):
    """Points to features: MLPs over backbone and hyperparameters, a convolution over the curve, joined by an MLP."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(shape.n_backbones, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        self.others = nn.Sequential(nn.Linear(shape.n_others, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        joined = 2 * WIDTH + 1
        self.curve: nn.Module | None = None
        if shape.grey_box:
            pooled = (shape.epochs + 1) // 2
            self.curve = nn.Sequential(
                nn.Conv1d(1, _CURVE_CHANNELS, 3, padding=1),
                nn.ReLU(),
                nn.Conv1d(_CURVE_CHANNELS, _CURVE_CHANNELS, 3, padding=1),
                nn.MaxPool1d(2, ceil_mode=True),
                nn.Flatten(),
                nn.Dropout(_DROPOUT),
                nn.Linear(_CURVE_CHANNELS * pooled, _CURVE_WIDTH),
            )
            joined += _CURVE_WIDTH
        self.meta: nn.Module | None = None
        if shape.n_metafeatures:
            self.meta = nn.Linear(shape.n_metafeatures, _META_WIDTH)
            joined += _META_WIDTH
        self.joined = nn.Sequential(nn.Linear(joined, WIDTH), nn.LeakyReLU(), nn.Linear(WIDTH, WIDTH))
        self.double()

    def forward(self, points: Points) -> Tensor:
        """Features, shape (n, WIDTH)."""
        parts = [self.backbone(points.backbones), self.others(points.others), points.epochs[:, None]]
        if self.curve is not None:
            # All configs that have not started share one empty prefix, and most candidates have not.
            empty = torch.zeros_like(points.prefixes[:1])
            curves = self.curve(torch.cat([empty, points.prefixes[points.started]])[:, None])
            parts.append(curves[torch.where(points.started, points.started.cumsum(0), 0)])
        if self.meta is not None:
            parts.append(self.meta(points.metafeatures).expand(len(points.epochs), -1))
        features: Tensor = self.joined(torch.cat(parts, dim=1))
        return features
