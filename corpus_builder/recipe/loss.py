"""The training loss: cross-entropy with label smoothing, mixed labels and class weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from metaquery.space import Config


def class_weights(config: Config, labels: Tensor, n_classes: int) -> Tensor | None:
    """Weights (n_classes,) inverse to the classes' frequency in `labels` (n,), 1 on average over the samples.

    None where the config does not weigh classes. A class that is not among the labels gets 0.
    """
    if config["class_balance"] != "weighting":
        return None
    counts = torch.bincount(labels, minlength=n_classes)
    present = counts > 0
    weights = torch.where(present, len(labels) / counts.clamp_min(1), torch.zeros(()))
    return weights / present.sum()


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    smoothing: Tensor | float = 0.0,
    weights: Tensor | None = None,
    other_labels: Tensor | None = None,
    share: Tensor | float = 1.0,
) -> Tensor:
    """Mean cross-entropy of `logits` (n, n_classes) against `labels` (n,), of which each has the weight `share` and
    `other_labels` the rest.

    Definitions are those of `torch.nn.functional.cross_entropy`, with `smoothing` as a tensor where it differs
    between models that are trained together.
    """
    log_p = F.log_softmax(logits, dim=1)
    loss = _against(log_p, labels, smoothing, weights)
    if other_labels is None:
        return loss
    return share * loss + (1 - share) * _against(log_p, other_labels, smoothing, weights)


def _against(log_p: Tensor, labels: Tensor, smoothing: Tensor | float, weights: Tensor | None) -> Tensor:
    own = F.nll_loss(log_p, labels, weights)
    if weights is None:
        return (1 - smoothing) * own + smoothing * -log_p.mean()
    spread = -(log_p * weights).sum() / log_p.shape[1] / weights[labels].sum()
    return (1 - smoothing) * own + smoothing * spread
