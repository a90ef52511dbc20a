"""The Swin encoder of MONAI's SwinUNETR (Hatamizadeh et al., 2022), 2-D and 3-D, from random weights.

Any size is taken: a map whose side is odd gets one row of zeros at its end before patches are merged, and windows are
padded with zeros at the end. For sides divisible by 32, as SwinUNETR demands them, only the windows are padded.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from corpus_builder.backbones.spec import BackboneSpec, Normalization
from corpus_builder.backbones.stages import StagedBackbone

_WIDTH = 48


class _ChannelNorm(nn.Module):
    """What SwinUNETR does to the encoder's output: layer normalisation over channels, without parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.movedim(F.layer_norm(torch.movedim(x, 1, -1), [x.shape[1]]), -1, 1)


def stages(net: Any) -> dict[str, nn.Module]:
    """Patch embedding and the four layers of the Swin part of a MONAI SwinUNETR."""
    swin = net.swinViT
    found: dict[str, nn.Module] = {"patches": swin.patch_embed}
    for number in range(1, 5):
        mixing = [getattr(swin, f"layers{number}c")[0]] if swin.use_v2 else []
        found[f"layer{number}"] = nn.Sequential(*mixing, getattr(swin, f"layers{number}")[0])
    return found | {"layer4": nn.Sequential(found["layer4"], _ChannelNorm())}


def _build(n_dims: int) -> StagedBackbone:
    from monai.networks.nets.swin_unetr import SwinTransformer

    device = torch.get_default_device()
    with torch.device("cpu"):  # it reads values of tensors while it is built
        swin = SwinTransformer(
            in_chans=1,
            embed_dim=_WIDTH,
            window_size=(7,) * n_dims,
            patch_size=(2,) * n_dims,
            depths=(2, 2, 2, 2),
            num_heads=(3, 6, 12, 24),
            spatial_dims=n_dims,
            downsample="mergingv2",  # the first version merges some of the eight neighbours twice and others never
        )
    net = nn.Module()
    net.swinViT = swin
    return StagedBackbone(stages(net), feature_dim=16 * _WIDTH).to(device)


def _spec(name: str, n_dims: int, parameters: int) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        family="swin_unetr",
        n_dims=n_dims,
        in_channels=1,
        feature_dim=16 * _WIDTH,
        parameters=parameters,
        normalization=Normalization("zscore"),
        build=partial(_build, n_dims),
        licence="Apache-2.0",
        source="monai.networks.nets.swin_unetr (Hatamizadeh et al., Swin UNETR, BrainLes 2021; Liu et al., ICCV 2021)",
    )


SPECS = (_spec("swin_unetr_encoder.scratch", 2, 6_306_810), _spec("swin_unetr_encoder_3d.scratch", 3, 8_062_002))
