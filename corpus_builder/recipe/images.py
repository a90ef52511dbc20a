"""From resident uint8 images to a batch of network input, on the images' device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from corpus_builder.backbones.spec import BackboneSpec

_MAX_SHIFT = 0.1  # of each axis
_MAX_BRIGHTNESS = 0.1  # of the full intensity range
_MAX_CONTRAST = 0.2


def augment(batch: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Augment a uint8 batch (n, channels, *spatial), each sample with its own draw; returns float in [0, 255].

    `none` only converts. `light` shifts every axis by up to a tenth (zero fill) and changes brightness and
    contrast; it never flips, so it is right for every modality and anatomy.
    """
    x = batch.float()
    if kind == "none":
        return x
    n, n_dims = len(x), x.ndim - 2
    draw = torch.rand((n, n_dims + 2), generator=generator).to(x.device) * 2 - 1
    theta = torch.eye(n_dims, n_dims + 1, device=x.device).repeat(n, 1, 1)
    theta[:, :, n_dims] = draw[:, :n_dims] * _MAX_SHIFT * 2  # the sampling grid spans [-1, 1]
    x = F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)
    one = (n, *[1] * (x.ndim - 1))
    contrast = 1 + draw[:, n_dims].view(one) * _MAX_CONTRAST
    brightness = draw[:, n_dims + 1].view(one) * _MAX_BRIGHTNESS * 255
    return (x * contrast + brightness).clamp(0, 255)


def to_input(x: Tensor, spec: BackboneSpec) -> Tensor:
    """Normalise a batch in [0, 255], (n, channels, *spatial), to what `spec` expects, (n, in_channels, *spatial).

    One-channel images are repeated for backbones that take colour; colour images become their channel mean for
    backbones that take one channel.
    """
    if x.shape[1] != spec.in_channels:
        x = (
            x.mean(dim=1, keepdim=True)
            if spec.in_channels == 1
            else x[:, :1].expand(-1, spec.in_channels, *x.shape[2:])
        )
    norm = spec.normalization
    axes = tuple(range(1, x.ndim))
    if norm.kind == "fixed":
        if norm.channel_order == "BGR":
            x = x.flip(1)
        shape = (1, -1, *[1] * (x.ndim - 2))
        mean = torch.tensor(norm.mean, dtype=x.dtype, device=x.device).view(shape)
        std = torch.tensor(norm.std, dtype=x.dtype, device=x.device).view(shape)
        return (x / 255 - mean) / std
    if norm.kind == "max":
        return x / x.amax(dim=axes, keepdim=True).clamp_min(1)
    if norm.kind == "percentile":
        quantiles = torch.quantile(x.flatten(1), x.new_tensor([0.01, 0.99]), dim=1)
        low, high = quantiles.view(2, -1, *[1] * (x.ndim - 1)).unbind()
        high = torch.where(high - low < 1, x.amax(dim=axes, keepdim=True), high)
        return (x - low) / (high - low).clamp_min(1)
    return (x - x.mean(dim=axes, keepdim=True)) / x.std(dim=axes, keepdim=True).clamp_min(1)
