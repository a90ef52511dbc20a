"""Squeeze-and-excitation ResNets of MONAI (Hu et al., CVPR 2018), 2-D and 3-D, from random weights."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from corpus_builder.backbones.spec import BackboneSpec, Normalization
from corpus_builder.backbones.stages import StagedBackbone


def stages(net: Any) -> dict[str, nn.Module]:
    """The stem and the four layers of a MONAI SENet."""
    return {"stem": net.layer0, **{f"layer{k}": getattr(net, f"layer{k}") for k in range(1, 5)}}


def _build(n_dims: int) -> StagedBackbone:
    from monai.networks.nets.senet import SEResNet50

    return StagedBackbone(stages(SEResNet50(spatial_dims=n_dims, in_channels=1)), feature_dim=2048)


def _spec(name: str, n_dims: int, parameters: int) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        family="senet",
        n_dims=n_dims,
        in_channels=1,
        feature_dim=2048,
        parameters=parameters,
        normalization=Normalization("zscore"),
        build=partial(_build, n_dims),
        licence="Apache-2.0",
        source="monai.networks.nets.senet (Hu et al., Squeeze-and-Excitation Networks, CVPR 2018)",
        min_size=3,  # the stem's pooling layer pads nothing
    )


SPECS = (_spec("seresnet50.scratch", 2, 26_032_752), _spec("seresnet50_3d.scratch", 3, 48_686_064))
