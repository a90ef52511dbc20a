"""EfficientNets of MONAI (Tan and Le, ICML 2019), 2-D and 3-D, from random weights.

MONAI pads for one image size, fixed when the net is built; here every convolution pads for the size it sees, as
TensorFlow's `same` does. Stochastic depth is left out: regularisation belongs to the recipe.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from corpus_builder.backbones.layers import SameConv2d, SameConv3d
from corpus_builder.backbones.spec import BackboneSpec, Normalization
from corpus_builder.backbones.stages import StagedBackbone


def stages(net: Any) -> dict[str, nn.Module]:
    """The stem, the seven groups of blocks and the head of a MONAI EfficientNet."""
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d | nn.Conv3d):
                setattr(module, name, _same(child))
            elif name.endswith("_padding"):
                setattr(module, name, nn.Identity())
            elif name == "_swish":
                setattr(module, name, nn.SiLU())  # MONAI's own saves memory by hand, which torch.func cannot follow
        if hasattr(module, "drop_connect_rate"):
            module.drop_connect_rate = 0.0
    return {
        "stem": nn.Sequential(net._conv_stem, net._bn0, nn.SiLU(inplace=True)),
        **{f"group{number}": group for number, group in enumerate(net._blocks, start=1)},
        "head": nn.Sequential(net._conv_head, net._bn1, nn.SiLU(inplace=True)),
    }


def _same(conv: nn.Conv2d | nn.Conv3d) -> SameConv2d | SameConv3d:
    same = (SameConv2d if isinstance(conv, nn.Conv2d) else SameConv3d)(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        groups=conv.groups,
        bias=conv.bias is not None,
        device="meta",
    )
    same.weight, same.bias = conv.weight, conv.bias
    return same


def _build(n_dims: int) -> StagedBackbone:
    from monai.networks.nets.efficientnet import EfficientNetBN

    net = EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=n_dims, in_channels=1)
    return StagedBackbone(stages(net), feature_dim=1280)


def _spec(name: str, n_dims: int, parameters: int) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        family="efficientnet",
        n_dims=n_dims,
        in_channels=1,
        feature_dim=1280,
        parameters=parameters,
        normalization=Normalization("zscore"),
        build=partial(_build, n_dims),
        licence="Apache-2.0",
        source="monai.networks.nets.efficientnet (Tan and Le, EfficientNet, ICML 2019)",
    )


SPECS = (_spec("efficientnet_b0.scratch", 2, 4_006_972), _spec("efficientnet_b0_3d.scratch", 3, 4_688_380))
