"""The encoder of MONAI's SegResNet (Myronenko, BrainLes 2018), 2-D and 3-D, from random weights."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from corpus_builder.backbones.spec import BackboneSpec, Normalization
from corpus_builder.backbones.stages import StagedBackbone

_WIDTH = 16


def stages(net: Any) -> dict[str, nn.Module]:
    """The first convolution and the levels of a MONAI SegResNet's encoder, without dropout: that is the recipe's."""
    return {"stem": net.convInit, **{f"level{k}": level for k, level in enumerate(net.down_layers, start=1)}}


def _build(n_dims: int) -> StagedBackbone:
    from monai.networks.nets.segresnet import SegResNet

    net = SegResNet(spatial_dims=n_dims, init_filters=_WIDTH, in_channels=1)
    return StagedBackbone(stages(net), feature_dim=8 * _WIDTH)


def _spec(name: str, n_dims: int, parameters: int) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        family="segresnet",
        n_dims=n_dims,
        in_channels=1,
        feature_dim=8 * _WIDTH,
        parameters=parameters,
        normalization=Normalization("zscore"),
        build=partial(_build, n_dims),
        licence="Apache-2.0",
        source="monai.networks.nets.segresnet (Myronenko, 3D MRI brain tumor segmentation, BrainLes 2018)",
    )


SPECS = (_spec("segresnet_encoder.scratch", 2, 1_468_368), _spec("segresnet_encoder_3d.scratch", 3, 4_399_344))
