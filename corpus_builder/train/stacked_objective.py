"""The loss of stacked models: `recipe.Objective` with a tensor (models,) in place of every number."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from corpus_builder.recipe import Classifier, Draw
from corpus_builder.recipe.loss import class_weights, cross_entropy
from corpus_builder.recipe.regularizers import bss, channel_attention, delta, l2_sp
from corpus_builder.train.stacked_model import StackedModel
from metaquery.space import Config


@dataclass(frozen=True, slots=True)
class Targets:
    """Labels of a batch of every model, (models, n), those they are mixed with, and the weights of their own,
    (models,); the last two are None where no model mixes."""

    labels: Tensor
    others: Tensor | None
    share: Tensor | None

    @classmethod
    def of(cls, labels: Tensor, draws: Sequence[Draw]) -> Targets:
        """From `labels` (models, n) and what each model drew."""
        if not any(draw.mix for draw in draws):
            return cls(labels, None, None)
        n = labels.shape[1]
        partners = torch.stack([draw.mix.partner if draw.mix else torch.arange(n) for draw in draws])
        share = torch.tensor([draw.mix.share if draw.mix else 1.0 for draw in draws], dtype=torch.get_default_dtype())
        return cls(labels, labels.gather(1, partners.to(labels.device)), share.to(labels.device))


class StackedObjective:
    """Losses of all models at once. Made when the models are as their pretrained weights left them."""

    def __init__(
        self, configs: Sequence[Config], model: StackedModel, first: Classifier, labels: Tensor, sample: Tensor
    ) -> None:
        """`first` is the first model; `labels` and `sample` are as for `recipe.Objective`."""
        n_classes = first.n_classes
        self._model = model
        self._stages = list(first.backbone.stages)[first.backbone.n_frozen :]

        def column(name: str) -> Tensor:
            values = [float(config.get(name, 0.0)) for config in configs]
            return torch.tensor(values, dtype=torch.get_default_dtype(), device=labels.device)

        weights = [class_weights(config, labels, n_classes) for config in configs]
        self._columns = {name: column(name) for name in ("label_smoothing", "l2_sp", "bss", "delta")}
        self._on = {name: bool((value > 0).any()) for name, value in self._columns.items()}
        if any(w is not None for w in weights):
            one = torch.ones(n_classes, device=labels.device)
            self._columns["weights"] = torch.stack([one if w is None else w for w in weights]).to(sample.dtype)
        self._start = {name: value[0].clone() for name, value in model.weights.items() if name.startswith("backbone.")}
        if self._on["delta"]:
            self._source = copy.deepcopy(first.backbone).eval().requires_grad_(False)
            self._attention = channel_attention(copy.deepcopy(first.backbone).eval(), sample, labels, n_classes)

    def gradients(
        self, x: Tensor, targets: Targets, buffers: Mapping[str, Tensor], active: Mapping[str, Tensor], rows: slice
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Losses (rows,) of the models `rows` and the gradients of their weights, (rows, ...) by name.

        `x` (models, n, ...) is what the frozen stages make of each model's batch, `active` says for each stage which
        models train it, (models,). The statistics of BatchNorm among `buffers` (models, ...) are updated.
        """
        weights = {name: value[rows].detach().requires_grad_() for name, value in self._model.weights.items()}
        x = x[rows]
        source: list[Tensor] = []
        if self._on["delta"]:
            with torch.no_grad():
                flat, _ = self._source.tail(x.flatten(0, 1))
            source = [output.unflatten(0, x.shape[:2]) for output in flat]
        columns = {name: value[rows] for name, value in self._columns.items()}
        trained = {stage: active[stage][rows].to(x.dtype) for stage in self._stages}
        inputs = (weights, {name: value[rows] for name, value in buffers.items()}, x, targets.labels[rows])
        mixes = [None if value is None else value[rows] for value in (targets.others, targets.share)]
        arguments: list[Any] = [*inputs, *mixes, columns, trained, source]
        in_dims = tuple(None if argument is None else 0 for argument in arguments)
        losses: Tensor = vmap(self._loss, in_dims=in_dims)(*arguments)
        gradients = torch.autograd.grad(losses.sum(), list(weights.values()))
        return losses.detach(), dict(zip(weights, gradients, strict=True))

    def _loss(
        self,
        weights: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        x: Tensor,
        labels: Tensor,
        others: Tensor | None,
        share: Tensor | None,
        columns: Mapping[str, Tensor],
        trained: Mapping[str, Tensor],
        source: Sequence[Tensor],
    ) -> Tensor:
        """The loss of one model."""
        found = self._model.call(weights, buffers, x)
        loss = cross_entropy(
            found.logits.to(torch.get_default_dtype()),
            labels,
            smoothing=columns["label_smoothing"],
            weights=columns.get("weights"),
            other_labels=others,
            share=1.0 if share is None else share,
        )
        if self._on["l2_sp"]:
            loss = loss + l2_sp({name: weights[name] for name in self._start}, self._start, columns["l2_sp"])
        if self._on["bss"]:
            loss = loss + bss(found.features, columns["bss"])
        if self._on["delta"]:
            attention = [value * trained[stage] for stage, value in zip(self._stages, self._attention, strict=True)]
            loss = loss + delta(found.outputs, source, attention, columns["delta"])
        return loss

    def keep(self, rows: Tensor) -> None:
        """Keep the models `rows` alone, in this order."""
        self._columns = {name: value[rows] for name, value in self._columns.items()}
