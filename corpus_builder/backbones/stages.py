"""What every backbone is: named stages in order, and a feature vector for each sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    resting = False

    def freeze(self, fraction: float) -> None:
        """Freeze the first round(fraction * number of stages) stages for good: no gradients, BatchNorm in evaluation
        mode."""
        self.n_frozen = round(fraction * len(self.stages))
        self.rest(self.resting)

    def rest(self, resting: bool) -> None:
        """Freeze the other stages too for as long as `resting`, as linear probing does before fine-tuning."""
        self.resting = resting
        for number, stage in enumerate(self.stages.values()):
            stage.requires_grad_(number >= self.n_frozen and not resting)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self._modules_of(list(self.stages)[: None if self.resting else self.n_frozen]):
            module.eval()
        return self

    def stage_parameters(self) -> dict[str, list[str]]:
        """Names of the parameters of each stage, in order."""
        names = {id(parameter): name for name, parameter in self.named_parameters()}
        return {stage: [names[id(p)] for p in held.parameters()] for stage, held in self.stages.items()}

    def forward(self, x: Tensor) -> Tensor:
        """Features of shape (n, feature_dim) for a normalised input (n, channels, *spatial)."""
        return self.tail(self.trunk(x))[1]

    def trunk(self, x: Tensor) -> Tensor:
        """What the frozen stages make of `x`, without gradients: the features where all are frozen, `x` itself where
        none is."""
        raise NotImplementedError

    def tail(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """From the output of `trunk` on: the outputs of the stages that are not frozen, (n, channels, ...) each, and
        the features."""
        raise NotImplementedError

    def _modules_of(self, stages: Sequence[str]) -> Iterable[nn.Module]:
        """The modules that belong to `stages` alone."""
        raise NotImplementedError


class StagedBackbone(Backbone):
    """A feature extractor whose stages run in order, then global average pooling."""

    cuttable = True
    stages: nn.ModuleDict

    def __init__(self, stages: Mapping[str, nn.Module], feature_dim: int) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(dict(stages))
        self.feature_dim = feature_dim

    def trunk(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.n_frozen == 0):
            for stage in list(self.stages.values())[: self.n_frozen]:
                x = stage(x)
        return _pooled(x) if self.n_frozen == len(self.stages) else x  # features take far less room to keep

    def tail(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        if self.n_frozen == len(self.stages):
            return [], x
        outputs = []
        for stage in list(self.stages.values())[self.n_frozen :]:
            x = stage(x)
            outputs.append(x)
        return outputs, _pooled(x)

    def _modules_of(self, stages: Sequence[str]) -> Iterable[nn.Module]:
        return [self.stages[stage] for stage in stages]


def _pooled(x: Tensor) -> Tensor:
    """Global average of (n, channels, ...), (n, channels)."""
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

    def trunk(self, x: Tensor) -> Tensor:
        if self.n_frozen < len(self.stages):  # what is frozen in part cannot be run apart
            return x
        with torch.no_grad():
            return self._features(self.net, x)

    def tail(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """As for every backbone, but what is between the stages cannot be seen: the features are the only output."""
        if self.n_frozen == len(self.stages):
            return [], x
        features = self._features(self.net, x)
        return [features], features

    def _modules_of(self, stages: Sequence[str]) -> Iterable[nn.Module]:
        held = {id(p) for stage in stages for p in self.stages[stage]}
        for module in self.net.modules():
            own = {id(p) for p in module.parameters()}
            if own and own <= held:
                yield module
