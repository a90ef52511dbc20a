"""Penalties that keep a fine-tuned backbone near what it knew, as pure functions of weights and activations.

Pure, so that one definition serves a single model and many models trained together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from corpus_builder.backbones.stages import Backbone

_RIDGE = 1.0
_CHUNK = 8  # samples at a time, so that it needs no more memory than the smallest batch in training


def l2_sp(weights: Mapping[str, Tensor], start: Mapping[str, Tensor], strength: Tensor | float) -> Tensor:
    """L2-SP (Li et al., ICML 2018): half of `strength` times the squared distance of `weights` to their `start`."""
    distances = [(value - start[name]).square().sum() for name, value in weights.items()]
    return torch.stack(distances).sum() * (strength / 2)


def bss(features: Tensor, strength: Tensor | float) -> Tensor:
    """Batch spectral shrinkage (Chen et al., NeurIPS 2019): `strength` times the square of the smallest singular value
    of the batch's `features` (n, d).

    It is the smallest eigenvalue of the smaller Gram matrix, which is cheaper than a singular value decomposition.
    """
    with torch.autocast(features.device.type, enabled=False):  # half precision has no eigenvalues
        features = features.to(torch.get_default_dtype())
        gram = features @ features.T if features.shape[0] <= features.shape[1] else features.T @ features
        smallest: Tensor = strength * torch.linalg.eigvalsh(gram)[0]
    return smallest


def delta(
    outputs: Sequence[Tensor], source: Sequence[Tensor], attention: Sequence[Tensor], strength: Tensor | float
) -> Tensor:
    """DELTA (Li et al., ICLR 2019): half of `strength` times the squared distance between the activations of the model
    and of the model it started from, weighted by channel.

    `outputs` and `source` are one tensor (n, channels, ...) per stage, `attention` (channels,) weights that sum to the
    number of channels. The distance is a mean over samples and positions and a sum over channels.
    """
    total = torch.zeros((), dtype=torch.get_default_dtype(), device=outputs[0].device)
    for output, reference, weights in zip(outputs, source, attention, strict=True):
        squared = (output - reference).to(total.dtype).square().reshape(*output.shape[:2], -1)
        total = total + (squared.mean(dim=(0, 2)) * weights).sum()
    return strength / 2 * total


def channel_attention(backbone: Backbone, x: Tensor, labels: Tensor, n_classes: int) -> list[Tensor]:
    """Weights of DELTA for each trainable stage of a pretrained `backbone`: how much the loss grows without a channel.

    `backbone` is in evaluation mode; `x` (n, ...) is what its frozen stages make of the samples with the first n
    `labels`. The paper trains a head on frozen features and switches channels off one at a time; here the head is a
    ridge regression on the features, and the growth is its first-order estimate, minus activation times gradient
    (Molchanov et al., ICLR 2017). A softmax over the channels makes the weights, as in the paper; they sum to the
    number of channels.
    """
    with torch.autocast(x.device.type, enabled=False):
        x, labels = x.detach().to(torch.get_default_dtype()), labels[: len(x)]
        with torch.no_grad():
            features = torch.cat([backbone.tail(part)[1] for part in x.split(_CHUNK)])
        mean = features.mean(dim=0)
        centred = features - mean
        target = F.one_hot(labels, n_classes).to(x.dtype)
        gram = centred.T @ centred + _RIDGE * torch.eye(centred.shape[1], dtype=x.dtype, device=x.device)
        head = torch.linalg.solve(gram, centred.T @ target)
        growth: list[Tensor] = []
        for part, true in zip(x.split(_CHUNK), labels.split(_CHUNK), strict=True):
            with torch.enable_grad():
                outputs, found = backbone.tail(part.requires_grad_())
                loss = F.cross_entropy((found - mean) @ head, true, reduction="sum")
            gradients = torch.autograd.grad(loss, outputs)
            grown = [-(o * g).detach().reshape(*o.shape[:2], -1).sum(dim=(0, 2)) for o, g in zip(outputs, gradients)]
            growth = [old + new for old, new in zip(growth, grown)] if growth else grown
    return [(value / len(x)).softmax(dim=0) * len(value) for value in growth]
