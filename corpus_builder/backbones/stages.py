"""What every backbone is: named stages in order, and a feature vector for each sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor, nn


class Backbone(nn.Module):
    """A feature extractor whose parameters belong to ordered, named stages.

    Freezing and layer-wise decay count in stages, so that they mean the same for every family. `cuttable` says whether
    the stages run one after the other and nothing else does, so that what comes out of a frozen prefix can be computed
    once and kept. The features of a backbone that is frozen whole can always be kept.
    """

    cuttable: ClassVar[bool]
    stages: nn.ModuleDict | dict[str, nn.ParameterList]
    feature_dim: int
    n_frozen = 0

    def freeze(self, fraction: float) -> None:
        """Freeze the first round(fraction * number of stages) stages: no gradients, BatchNorm in evaluation mode."""
        self.n_frozen = round(fraction * len(self.stages))
        for stage in list(self.stages.values())[: self.n_frozen]:
            stage.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def _frozen_modules(self) -> Iterable[nn.Module]:
        raise NotImplementedError


class StagedBackbone(Backbone):
    """A feature extractor whose stages run in order, then global average pooling."""

    cuttable = True
    stages: nn.ModuleDict

    def __init__(self, stages: Mapping[str, nn.Module], feature_dim: int) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(dict(stages))
        self.feature_dim = feature_dim

    def _frozen_modules(self) -> Iterable[nn.Module]:
        return list(self.stages.values())[: self.n_frozen]

    def forward(self, x: Tensor) -> Tensor:
        """Features of shape (n, feature_dim) for a normalised input (n, channels, *spatial)."""
        stages = list(self.stages.values())
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.n_frozen == 0):
            for stage in stages[: self.n_frozen]:
                x = stage(x)
        for stage in stages[self.n_frozen :]:
            x = stage(x)
        return x.mean(dim=tuple(range(2, x.ndim)))


class WrappedBackbone(Backbone):
    """A net that only runs as a whole, with its parameters divided into stages.

    `stages` names the parameters of each stage; every parameter of `net` belongs to one. `features` runs the net on a
    normalised input and gives (n, feature_dim). A module is frozen when all of its parameters are: then it is in
    evaluation mode, with whatever it holds (BatchNorm, dropout). A frozen prefix needs no gradients, so none are kept.
    """

    cuttable = False
    stages: dict[str, nn.ParameterList]

    def __init__(
        self,
        net: nn.Module,
        stages: Mapping[str, Iterable[str]],
        features: Callable[[nn.Module, Tensor], Tensor],
        feature_dim: int,
    ) -> None:
        super().__init__()
        self.net = net
        # A plain dictionary registers nothing, so that the state dict holds the net's parameters once.
        self.stages = {
            stage: nn.ParameterList(net.get_parameter(name) for name in names) for stage, names in stages.items()
        }
        self._features = features
        self.feature_dim = feature_dim

    def _frozen_modules(self) -> Iterable[nn.Module]:
        frozen = {id(p) for stage in list(self.stages.values())[: self.n_frozen] for p in stage}
        for module in self.net.modules():
            own = {id(p) for p in module.parameters()}
            if own and own <= frozen:
                yield module

    def forward(self, x: Tensor) -> Tensor:
        """Features of shape (n, feature_dim) for a normalised input (n, channels, *spatial)."""
        return self._features(self.net, x)
