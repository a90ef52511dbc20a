"""What a trial minimises: the training loss and the penalties that its config asks for."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from corpus_builder.recipe.loss import class_weights, cross_entropy
from corpus_builder.recipe.mixing import Mix
from corpus_builder.recipe.model import Activations, Classifier
from corpus_builder.recipe.regularizers import bss, channel_attention, delta, l2_sp
from metaquery.space import Config


class Objective:
    """The loss of a batch, for a model that is now as its pretrained weights left it."""

    def __init__(self, config: Config, model: Classifier, labels: Tensor, sample: Tensor) -> None:
        """`labels` (n,) are those of the training part, on the model's device; from `sample`, what the frozen stages
        make of the first of them, (m, ...), DELTA finds the weights of the channels."""
        self._config = config
        self._smoothing = float(config["label_smoothing"])
        self._weights = class_weights(config, labels, model.n_classes)
        self._l2_sp, self._bss, self._delta = (float(config.get(name, 0.0)) for name in ("l2_sp", "bss", "delta"))
        if self._l2_sp:
            trainable = ((name, p) for name, p in model.backbone.named_parameters() if p.requires_grad)
            self._start = {name: p.detach().clone() for name, p in trainable}
        if self._delta:
            self._source = copy.deepcopy(model.backbone).eval().requires_grad_(False)
            self._attention = channel_attention(self._source, sample, labels, model.n_classes)

    def __call__(self, model: Classifier, x: Tensor, found: Activations, labels: Tensor, mix: Mix | None) -> Tensor:
        """The loss of a batch with `labels` (n,): `found` is what `model` made of `x`, which its frozen stages gave.

        In the precision that is in force, as the model itself.
        """
        loss = cross_entropy(
            found.logits.to(torch.get_default_dtype()),
            labels,
            smoothing=self._smoothing,
            weights=self._weights,
            other_labels=None if mix is None else labels[mix.partner.to(labels.device)],
            share=1.0 if mix is None else mix.share,
        )
        if self._l2_sp:
            weights = dict(model.backbone.named_parameters())
            loss = loss + l2_sp({name: weights[name] for name in self._start}, self._start, self._l2_sp)
        if self._bss:
            loss = loss + bss(found.features, self._bss)
        if self._delta and not model.backbone.resting:
            with torch.no_grad():
                source, _ = self._source.tail(x)
            loss = loss + delta(found.outputs, source, self._attention, self._delta)
        return loss
