"""ResNets of MONAI, 2-D and 3-D, from random weights, with a stride-2 stem."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from corpus_builder.backbones.spec import BackboneSpec, Normalization
from corpus_builder.backbones.stages import StagedBackbone


def stages(net: Any) -> dict[str, nn.Module]:
    """The stem and the four layers of a MONAI ResNet."""
    stem = [net.conv1, net.bn1, net.act, *([] if net.no_max_pool else [net.maxpool])]
    return {"stem": nn.Sequential(*stem), **{f"layer{k}": getattr(net, f"layer{k}") for k in range(1, 5)}}


def _build(n_dims: int, depth: int, feature_dim: int) -> StagedBackbone:
    from monai.networks.nets import resnet  # seconds to import: only where such a net is built

    factory = getattr(resnet, f"resnet{depth}")
    net = factory(spatial_dims=n_dims, n_input_channels=1, conv1_t_stride=2, feed_forward=False, shortcut_type="B")
    return StagedBackbone(stages(net), feature_dim)


def _spec(n_dims: int, depth: int, feature_dim: int, parameters: int) -> BackboneSpec:
    return BackboneSpec(
        name=f"resnet{depth}{'_3d' if n_dims == 3 else ''}.scratch",
        family="resnet",
        n_dims=n_dims,
        in_channels=1,
        feature_dim=feature_dim,
        parameters=parameters,
        normalization=Normalization("zscore"),
        build=partial(_build, n_dims, depth, feature_dim),
        licence="Apache-2.0",
        source="monai.networks.nets.resnet (He et al., CVPR 2016; Hara et al., CVPR 2018)",
    )


SPECS = (
    _spec(2, 10, 512, 4_900_416),
    _spec(2, 18, 512, 11_171_136),
    _spec(2, 34, 512, 21_279_296),
    _spec(2, 50, 2048, 23_505_600),
    _spec(3, 10, 512, 14_356_416),
    _spec(3, 18, 512, 33_160_896),
    _spec(3, 34, 512, 63_470_528),
    _spec(3, 50, 2048, 46_158_912),
)
