"""The order in which samples are seen."""

from __future__ import annotations

import torch
from torch import Tensor

from metaquery.space import Config


def epoch_order(config: Config, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Indices of the samples of one epoch, (n,), for `labels` (n,) on the CPU.

    Each sample once; with balanced sampling, draws with replacement in which every class is as likely.
    """
    if config["class_balance"] != "sampling":
        return torch.randperm(len(labels), generator=generator)
    weights = 1.0 / torch.bincount(labels)[labels]
    return torch.multinomial(weights, len(labels), replacement=True, generator=generator)
