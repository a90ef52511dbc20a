"""Mixup and CutMix: each sample of a batch mixed with another one of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metaquery.space import Config


@dataclass(frozen=True, slots=True)
class Mix:
    """How a batch is mixed: `partner` (n,) is the other sample of each one, `keep` the weight that each position keeps,
    broadcastable to the spatial shape, and `share` the weight of the sample's own label."""

    partner: Tensor
    keep: Tensor
    share: float

    @classmethod
    def neutral(cls, n: int, size: Sequence[int]) -> Mix:
        """The mix that changes nothing."""
        return cls(torch.arange(n), torch.ones([1] * len(size)), 1.0)


def draw_mix(config: Config, n: int, size: Sequence[int], rng: np.random.Generator) -> Mix | None:
    """The mix of a batch of `n` samples of spatial shape `size`; None where the batch stays as it is.

    `mixup`: convex combination with a weight from Beta(alpha, alpha) (Zhang et al., ICLR 2018). `cutmix`: a box of
    that share of the image comes from the other sample, and labels weigh as the box really does (Yun et al., ICCV
    2019). `both`: one of the two, by a fair coin.
    """
    kind = str(config["mixing"])
    if kind == "none" or rng.random() >= float(config["mixing_probability"]):
        return None
    if kind == "both":
        kind = ("mixup", "cutmix")[int(rng.integers(2))]
    alpha = float(config["mixing_alpha"])
    share = float(rng.beta(alpha, alpha))
    partner = torch.from_numpy(rng.permutation(n))
    if kind == "mixup":
        return Mix(partner, torch.full([1] * len(size), share), share)
    keep = torch.ones(tuple(size))
    side = (1 - share) ** (1 / len(size))
    box = []
    for length in size:
        cut = math.floor(length * side)
        start = int(rng.integers(length)) - cut // 2
        box.append(slice(max(0, start), min(length, start + cut)))
    keep[tuple(box)] = 0
    return Mix(partner, keep, float(keep.mean()))


def mixed(x: Tensor, mix: Mix) -> Tensor:
    """The network input `x` (n, channels, *spatial) mixed as `mix` says."""
    keep = mix.keep.to(x.device, x.dtype)
    return x * keep + x[mix.partner.to(x.device)] * (1 - keep)
