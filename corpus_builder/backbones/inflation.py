"""2-D convolutional nets with their weights turned into 3-D ones (Carreira and Zisserman, CVPR 2017: I3D).

Kernels are repeated along a new depth axis and divided by its length; strides and poolings become the same along depth
as in the plane. Along depth, maps are padded with their own first and last slice instead of zeros. So the boring-video
fixed point of that paper is exact: a volume whose slices are all alike has the features of the 2-D net on one slice,
whatever the depth; and where few slices are left, deep in a net, activations keep the scale they were trained at.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from corpus_builder.backbones import (
    cifar_resnet,
    lwnet,
    mobilenetv1,
    mobilenetv2,
    preact_resnet,
    shufflenet,
    squeezenet,
)
from corpus_builder.backbones.layers import SameConv2d, same_padding
from corpus_builder.backbones.spec import BackboneSpec
from corpus_builder.backbones.stages import StagedBackbone


class InflatedConv3d(nn.Conv3d):
    """The 3-D form of a 2-D convolution with square kernels: zeros in the plane as it pads, end slices along depth."""

    def __init__(self, flat: nn.Conv2d) -> None:
        if not flat.kernel_size[0] == flat.kernel_size[1] or isinstance(flat.padding, str):
            raise ValueError(f"cannot inflate {flat}: expected a square kernel and padding by numbers")
        super().__init__(
            flat.in_channels,
            flat.out_channels,
            flat.kernel_size[0],
            flat.stride[0],
            (0, flat.padding[0], flat.padding[1]),
            flat.dilation[0],
            flat.groups,
            bias=flat.bias is not None,
        )
        self.same = isinstance(flat, SameConv2d)
        self.depth_padding = int(flat.padding[0])

    def forward(self, x: Tensor) -> Tensor:
        before = after = self.depth_padding
        if self.same:
            pads = [same_padding(*axis) for axis in zip(x.shape[2:], self.kernel_size, self.stride, strict=True)]
            before, after = pads[0]
            x = F.pad(x, (*pads[2], *pads[1]))
        # joined from slices: the gradient of torch's own replication padding is not deterministic on a GPU
        ends = x[:, :, :1].expand(-1, -1, before, -1, -1), x[:, :, -1:].expand(-1, -1, after, -1, -1)
        return super().forward(torch.cat((ends[0], x, ends[1]), dim=2) if before or after else x)


def inflate_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a 2-D net as those of its inflated form: kernels (o, i, k, k) become (o, i, k, k, k) / k."""
    return {
        key: t[:, :, None].expand(-1, -1, t.shape[-1], -1, -1) / t.shape[-1] if t.ndim == 4 else t
        for key, t in tensors.items()
    }


def inflate(backbone: StagedBackbone) -> StagedBackbone:
    """A 3-D copy of a 2-D convolutional backbone, with its weights; ValueError for layers that only exist in 2-D."""
    volumetric = copy.deepcopy(backbone)
    for module in list(volumetric.modules()):
        for name, child in list(module.named_children()):
            setattr(module, name, _inflated(child))
    volumetric.load_state_dict(inflate_state(backbone.state_dict()))
    return volumetric


def _inflated(layer: nn.Module) -> nn.Module:
    if isinstance(layer, nn.Conv2d):
        return InflatedConv3d(layer)
    if isinstance(layer, nn.BatchNorm2d):
        return nn.BatchNorm3d(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    if isinstance(layer, nn.MaxPool2d):  # pads with minus infinity, which no maximum ever takes
        return nn.MaxPool3d(layer.kernel_size, layer.stride, layer.padding, layer.dilation, ceil_mode=layer.ceil_mode)
    if isinstance(layer, nn.AvgPool2d) and isinstance(layer.kernel_size, int) and layer.padding == 0:
        return nn.AvgPool3d(layer.kernel_size, cast("int", layer.stride), ceil_mode=layer.ceil_mode)
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        return nn.AdaptiveAvgPool3d(layer.output_size)
    if isinstance(layer, nn.Dropout2d):
        return nn.Dropout3d(layer.p)
    if type(layer).__name__.endswith("2d"):
        raise ValueError(f"cannot inflate {layer}: there is no rule for this layer")
    return layer


def _spec(flat: BackboneSpec, parameters: int) -> BackboneSpec:
    architecture, _, pretraining = flat.name.partition(".")
    assert flat.weights is not None
    weights = replace(
        flat.weights,
        pretrained_on=f"{flat.weights.pretrained_on}, in 2-D; kernels inflated to 3-D",
        adapt=inflate_state,
    )
    return replace(
        flat,
        name=f"{architecture}_3d.{pretraining}",
        n_dims=3,
        parameters=parameters,
        build=partial(_build, flat),
        source=f"{flat.source}; inflated as in Carreira and Zisserman, Quo Vadis, CVPR 2017",
        weights=weights,
        input_size=None,  # no volume was seen
    )


def _build(flat: BackboneSpec) -> StagedBackbone:
    return inflate(cast("StagedBackbone", flat.build()))


_PARAMETERS = {
    "resnet20.cifar10": 804_464,
    "resnet56.cifar10": 2_548_976,
    "lwnet.drive_artery_vein": 223_776,
    "mobilenetv1_050.imagenet": 864_096,
    "mobilenetv1_025.vww": 235_824,
    "mobilenetv2_100.imagenet": 2_355_136,
    "mobilenetv2_100.inat_bird": 2_354_048,
    "resnet50v2.imagenet": 17_072_966,
    "shufflenetv2_x0_5.imagenet": 163_008,
    "squeezenet1_1.imagenet": 1_831_872,
}
_FAMILIES = (cifar_resnet, lwnet, mobilenetv1, mobilenetv2, preact_resnet, shufflenet, squeezenet)

SPECS = tuple(_spec(flat, _PARAMETERS[flat.name]) for family in _FAMILIES for flat in family.SPECS)
