"""The pre-activation ResNet-50 (He et al., ECCV 2016) up to stage 3, in the GluonCV form: a BatchNorm on the input."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from corpus_builder.backbones.spec import IMAGENET, BackboneSpec, Weights
from corpus_builder.backbones.stages import StagedBackbone


class _Bottleneck(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        mid = c_out // 4
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, mid, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(mid)
        self.conv2 = nn.Conv2d(mid, mid, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(mid)
        self.conv3 = nn.Conv2d(mid, c_out, 1, bias=False)
        self.downsample = nn.Conv2d(c_in, c_out, 1, stride, bias=False) if c_in != c_out else None

    def forward(self, x: Tensor) -> Tensor:
        active = torch.relu(self.bn1(x))
        shortcut: Tensor = x if self.downsample is None else self.downsample(active)
        y: Tensor = self.conv2(torch.relu(self.bn2(self.conv1(active))))
        y = self.conv3(torch.relu(self.bn3(y)))
        return y + shortcut


def _build() -> StagedBackbone:
    stem = OrderedDict[str, nn.Module](
        bn_in=nn.BatchNorm2d(3),
        conv1=nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        bn1=nn.BatchNorm2d(64),
        relu=nn.ReLU(inplace=True),
        pool=nn.MaxPool2d(3, stride=2, padding=1),
    )
    stages: dict[str, nn.Module] = {"stem": nn.Sequential(stem)}
    channels = 64
    for number, (blocks, width, stride) in enumerate(((3, 256, 1), (4, 512, 2), (6, 1024, 2)), start=1):
        layers = [_Bottleneck(channels, width, stride), *(_Bottleneck(width, width, 1) for _ in range(blocks - 1))]
        stages[f"layer{number}"] = nn.Sequential(*layers)
        channels = width
    return StagedBackbone(stages, feature_dim=channels)


def _rename(key: str) -> str | None:
    return f"stages.{key}" if key.startswith("layer") else f"stages.stem.{key}"


SPECS = (
    BackboneSpec(
        name="resnet50v2.imagenet",
        family="preact_resnet",
        n_dims=2,
        in_channels=3,
        feature_dim=1024,
        parameters=8_537_798,
        normalization=IMAGENET,
        build=_build,
        licence="Apache-2.0",
        source="He et al., Identity Mappings in Deep Residual Networks, ECCV 2016",
        weights=Weights(
            file="resnet50v2_trunk_gluon_imagenet/resnet50v2_stem_to_layer3_imagenet.safetensors",
            sha256="997dc07ab7686b4242dcb6b2807e926fb9f7c18521459a738c5be30d4ed9d96e",
            pretrained_on="ImageNet-1k",
            licence="Apache-2.0",
            source="github:miaobin/test-data @ 1b11055b7f3196ffe9a97051e7f4d10c74a44914 (ONNX Model Zoo)",
            rename=_rename,
        ),
        input_size=(224, 224),
    ),
)
