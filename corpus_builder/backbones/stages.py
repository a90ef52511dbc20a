"""The one shape every backbone has: an ordered list of stages, then global average pooling."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class StagedBackbone(nn.Module):
    """A feature extractor whose stages run in order.

    Freezing and layer-wise decay count in stages, so that they mean the same for every family.
    """

    def __init__(self, stages: Mapping[str, nn.Module], feature_dim: int) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(dict(stages))
        self.feature_dim = feature_dim
        self.n_frozen = 0

    def freeze(self, fraction: float) -> None:
        """Freeze the first round(fraction * number of stages) stages: no gradients, BatchNorm in evaluation mode."""
        self.n_frozen = round(fraction * len(self.stages))
        for stage in list(self.stages.values())[: self.n_frozen]:
            stage.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> StagedBackbone:
        super().train(mode)
        for stage in list(self.stages.values())[: self.n_frozen]:
            stage.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Features of shape (n, feature_dim) for a normalised input (n, channels, *spatial)."""
        stages = list(self.stages.values())
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.n_frozen == 0):
            for stage in stages[: self.n_frozen]:
                x = stage(x)
        for stage in stages[self.n_frozen :]:
            x = stage(x)
        return x.mean(dim=tuple(range(2, x.ndim)))
