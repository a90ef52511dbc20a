"""MedicalNet (Chen et al., 2019): 3-D ResNets trained on 23 medical segmentation datasets, from a file of the user's.

Layers 3 and 4 are dilated instead of strided, as in the published nets, so a feature stands for 8 voxels a side. Depths
18 and 34 have parameter-free shortcuts. The published code cuts the gradient of those; here it flows.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from corpus_builder.backbones import monai_resnet
from corpus_builder.backbones.layers import PadShortcut
from corpus_builder.backbones.spec import HUB, BackboneSpec, Normalization, Weights
from corpus_builder.backbones.stages import StagedBackbone

_DILATIONS = {"layer3": 2, "layer4": 4}
_PARAMETER_FREE = (18, 34)  # the depths with shortcuts of option A


def _build(depth: int, feature_dim: int) -> StagedBackbone:
    from monai.networks.nets import resnet

    net = getattr(resnet, f"resnet{depth}")(
        spatial_dims=3, n_input_channels=1, conv1_t_stride=2, feed_forward=False, bias_downsample=False
    )
    stages = monai_resnet.stages(net)
    for name, dilation in _DILATIONS.items():
        for conv in stages[name].modules():
            if isinstance(conv, nn.Conv3d):
                conv.stride = (1, 1, 1)
                if conv.kernel_size == (3, 3, 3):
                    conv.dilation = conv.padding = (dilation,) * 3
    if depth in _PARAMETER_FREE:
        for name, stage in stages.items():
            for block in stage.children():
                shortcut = getattr(block, "downsample", None)
                if shortcut is not None:
                    conv = shortcut[0]
                    stride = 1 if name in _DILATIONS else conv.stride[0]
                    block.downsample = PadShortcut(stride, 0, conv.out_channels - conv.in_channels)
    return StagedBackbone(stages, feature_dim)


_STEM = {"conv1": "0", "bn1": "1"}


def _rename(key: str) -> str | None:
    key = key.removeprefix("module.")
    part, _, rest = key.partition(".")
    if part == "conv_seg":
        return None
    return f"stages.stem.{_STEM[part]}.{rest}" if part in _STEM else f"stages.{key}"


def _spec(depth: int, feature_dim: int, parameters: int) -> BackboneSpec:
    return BackboneSpec(
        name=f"resnet{depth}_3d.medicalnet",
        family="medicalnet",
        n_dims=3,
        in_channels=1,
        feature_dim=feature_dim,
        parameters=parameters,
        # The published code takes the statistics of voxels above zero and fills the rest with noise.
        normalization=Normalization("zscore"),
        build=partial(_build, depth, feature_dim),
        licence="MIT",
        source="Chen et al., Med3D: Transfer Learning for 3D Medical Image Analysis, arXiv:1904.00625",
        weights=Weights(
            file=f"medicalnet/resnet_{depth}_23dataset.pth",
            sha256="",
            pretrained_on="23 CT and MR datasets (segmentation)",
            licence="MIT",
            source=f"{HUB}TencentMedicalNet/MedicalNet-Resnet{depth}",
            rename=_rename,
        ),
        input_size=(56, 448, 448),
    )


SPECS = (
    _spec(10, 512, 14_355_520),
    _spec(18, 512, 32_986_176),
    _spec(34, 512, 63_295_808),
    _spec(50, 2048, 46_155_072),
)
