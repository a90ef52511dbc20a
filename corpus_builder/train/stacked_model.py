"""Several models of one architecture as one: their weights are stacked along a first axis and run under `vmap`."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from corpus_builder.recipe import Classifier
from corpus_builder.recipe.model import Activations
from corpus_builder.recipe.stochastic import Dropout


class GatedNorm(_BatchNorm):
    """BatchNorm for models that do not agree on its mode: each has its own buffers `choice` (channels,), 1 where the
    moving statistics normalise a channel, and `active`, 0 where they are not updated.

    With `choice` 1 and `active` 0 it is BatchNorm in evaluation mode; a random choice is stochastic normalisation.
    """

    choice: Tensor
    active: Tensor

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.load_state_dict(norm.state_dict())
        self.register_buffer("choice", torch.zeros(norm.num_features), persistent=False)
        self.register_buffer("active", torch.ones(()), persistent=False)

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        mean, variance = self.running_mean.clone(), self.running_var.clone()
        by_batch = F.batch_norm(x, mean, variance, self.weight, self.bias, True, self.momentum or 0.0, self.eps)
        mean = torch.where(self.active > 0, mean, self.running_mean)
        variance = torch.where(self.active > 0, variance, self.running_var)
        moving = F.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(self.active.long())
        self.running_mean.copy_(mean)
        self.running_var.copy_(variance)
        return torch.where(self.choice.view(1, -1, *[1] * (x.ndim - 2)) > 0, moving, by_batch)


def gate_norms(module: nn.Module) -> None:
    """Replace, in place, every BatchNorm below `module` by a `GatedNorm` with the same weights and statistics."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, GatedNorm(child))
        else:
            gate_norms(child)


class _Tail(nn.Module):
    """The part of a classifier after its frozen stages."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Activations:
        return self.model.tail(x)


class StackedModel:
    """`models`, which share their architecture and their first `n_frozen` stages, as one.

    `weights` are the parameters after the frozen stages and `buffers` the buffers there, each (models, ...), by name.
    Frozen stages are those of the first model.
    """

    def __init__(self, models: Sequence[Classifier], *, gated: bool) -> None:
        """`gated`: the models will not agree on which stages are in training, or have stochastic normalisation."""
        self.trunk = models[0].backbone
        template = copy.deepcopy(models[0])
        stages = list(template.backbone.stages)[template.backbone.n_frozen :]
        if gated:
            for stage in stages:
                gate_norms(template.backbone.stages[stage])
        for layer in template.modules():
            if isinstance(layer, Dropout):
                layer.p = max(one.p for model in models for one in model.head if isinstance(one, Dropout))
        self._template = _Tail(template.requires_grad_(False))
        kept = (*(f"backbone.stages.{stage}." for stage in stages), "head.")
        states = [dict(model.named_parameters()) | dict(model.named_buffers()) for model in models]
        self.weights = {
            name: torch.stack([state[name].detach() for state in states])
            for name, _ in template.named_parameters()
            if name.startswith(kept)
        }
        self.buffers = {
            name: torch.stack([state.get(name, value).detach() for state in states])
            for name, value in template.named_buffers()
            if name.startswith(kept)
        }

    def __len__(self) -> int:
        return len(next(iter(self.weights.values())))

    def state(self) -> dict[str, Tensor]:
        """Weights and buffers."""
        return {**self.weights, **self.buffers}

    def train(self) -> None:
        """Put the models into training mode."""
        self._template.train()

    def eval(self) -> None:
        """Put the models into evaluation mode."""
        self._template.eval()

    def call(self, weights: Mapping[str, Tensor], buffers: Mapping[str, Tensor], x: Tensor) -> Activations:
        """One model, with `weights` and `buffers`, on the output `x` of the frozen stages; for use under `vmap`."""
        state = {f"model.{name}": value for name, value in (*weights.items(), *buffers.items())}
        found: Activations = functional_call(self._template, state, (x,))
        return found

    def logits(self, weights: Mapping[str, Tensor], buffers: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Logits (models, n, n_classes) of all models on the same `x` (n, ...)."""
        result: Tensor = vmap(lambda w, b: self.call(w, b, x).logits)(weights, buffers)
        return result

    def keep(self, rows: Tensor) -> None:
        """Keep the models `rows` alone, in this order."""
        self.weights = {name: value[rows] for name, value in self.weights.items()}
        self.buffers = {name: value[rows] for name, value in self.buffers.items()}
