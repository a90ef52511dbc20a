"""Layers that draw random numbers: what they draw is handed to them, so that every trial has streams of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


class Dropout(nn.Module):
    """Dropout of features (n, d) with a mask that `draw` makes and that is a buffer."""

    mask: Tensor

    def __init__(self, p: float, features: int) -> None:
        super().__init__()
        self.p = p
        self.features = features
        self.register_buffer("mask", torch.ones(1, 1), persistent=False)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """The mask of a batch of `n` samples, (n, d)."""
        keep = torch.rand((n, self.features), generator=generator) >= self.p
        return keep.to(self.mask) / (1 - self.p)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask if self.training and self.p > 0 else x


BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class StochasticNorm(_BatchNorm):
    """BatchNorm that normalises each channel, by a coin of probability `p`, with its moving statistics instead of the
    batch's (Kou et al., NeurIPS 2020). The moving statistics are updated first, as usual, and carry no gradient."""

    choice: Tensor

    def __init__(self, norm: _BatchNorm, p: float) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.load_state_dict(norm.state_dict())
        self.weight, self.bias = norm.weight, norm.bias  # the same parameters: others may hold them too
        self.p = p
        self.register_buffer("choice", torch.zeros(norm.num_features), persistent=False)

    def draw(self, _n: int, generator: torch.Generator) -> Tensor:
        """Which channels use the moving statistics, (channels,), 1 where they do."""
        return (torch.rand(self.num_features, generator=generator) < self.p).to(self.choice)

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        by_batch = super().forward(x)
        if not self.training:
            return by_batch
        assert self.running_mean is not None
        assert self.running_var is not None
        moving = F.batch_norm(
            x, self.running_mean.clone(), self.running_var.clone(), self.weight, self.bias, False, 0.0, self.eps
        )
        return torch.where(self.choice.view(1, -1, *[1] * (x.ndim - 2)) > 0, moving, by_batch)


def with_stochastic_norm(module: nn.Module, p: float) -> None:
    """Replace, in place, every plain BatchNorm below `module` that is trained by `StochasticNorm` with its parameters
    and statistics."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and type(child) in BATCH_NORMS:
            if child.weight is not None and child.weight.requires_grad:
                setattr(module, name, StochasticNorm(child, p))
        else:
            with_stochastic_norm(child, p)


Random = Dropout | StochasticNorm


def random_layers(model: nn.Module) -> dict[str, Random]:
    """The layers of `model` that draw in training, by the name of the buffer that takes what they drew."""
    buffers = {Dropout: "mask", StochasticNorm: "choice"}
    return {
        f"{name}.{buffers[type(layer)]}": layer
        for name, layer in model.named_modules()
        if isinstance(layer, Dropout | StochasticNorm) and layer.p > 0
    }
