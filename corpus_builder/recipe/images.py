"""From resident uint8 images to a batch of network input, on the images' device."""

from __future__ import annotations

import torch
from torch import Tensor

from corpus_builder.backbones.spec import BackboneSpec
from corpus_builder.recipe.mixing import mixed
from corpus_builder.recipe.stream import Draw
from corpus_builder.recipe.transformation import apply


def training_input(images: Tensor, draw: Draw | None, spec: BackboneSpec) -> Tensor:
    """A uint8 batch (n, channels, *spatial) transformed, normalised and mixed as `draw` says, if it does: network
    input."""
    x = images.to(torch.get_default_dtype())
    if draw is None:
        return to_input(x, spec)
    x = to_input(apply(x, draw.transform), spec)
    return x if draw.mix is None else mixed(x, draw.mix)


def to_input(x: Tensor, spec: BackboneSpec) -> Tensor:
    """Normalise a batch in [0, 255], (n, channels, *spatial), to what `spec` expects, (n, in_channels, *spatial).

    Where the numbers of channels differ, images become the mean of their channels, and that is repeated for backbones
    that take several: grey images for nets of colour, colour images for nets of one channel, several MR sequences for
    either.
    """
    if x.shape[1] != spec.in_channels:
        x = x.mean(dim=1, keepdim=True).expand(-1, spec.in_channels, *x.shape[2:])
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
