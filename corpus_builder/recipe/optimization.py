"""Optimizer and learning-rate schedule of a config."""

from __future__ import annotations

import math

import torch
from torch import nn

from metaquery.space import Config


def build_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """The config's update rule over the trainable parameters; weight decay spares biases and norm layers."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": float(config["weight_decay"])},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    peak = float(config["lr"])
    if config["optimizer"] == "adamw":
        return torch.optim.AdamW(groups, lr=peak)
    momentum = float(config["momentum"])
    return torch.optim.SGD(groups, lr=peak, momentum=momentum, nesterov=momentum > 0)


def learning_rate_at(config: Config, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Learning rate of `step` (from 0) out of `epochs * steps_per_epoch`.

    Linear warm-up, then constant or half a cosine (Loshchilov and Hutter, ICLR 2017, without restarts).
    """
    peak = float(config["lr"])
    warmup = int(config["warmup_epochs"]) * steps_per_epoch
    if step < warmup:
        return peak * (step + 1) / warmup
    if config["schedule"] == "none":
        return peak
    progress = (step - warmup) / max(1, epochs * steps_per_epoch - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))
