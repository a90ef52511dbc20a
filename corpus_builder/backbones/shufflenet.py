"""ShuffleNetV2 (Ma et al., ECCV 2018) at width 0.5: the trunk up to stage 4, channels split into even and odd."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from corpus_builder.backbones.spec import UNIT_RANGE, BackboneSpec, Weights
from corpus_builder.backbones.stages import StagedBackbone


def _conv(c_in: int, c_out: int, kernel: int, stride: int, *, groups: int = 1, relu: bool = True) -> list[nn.Module]:
    layers: list[nn.Module] = [
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
    ]
    return [*layers, nn.ReLU(inplace=True)] if relu else layers


class _Unit(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        mid = c_out // 2
        self.branch_main = nn.Sequential(
            *_conv(c_in, mid, 1, 1),
            *_conv(mid, mid, 3, stride, groups=mid, relu=False),
            *_conv(mid, c_out - c_in, 1, 1),
        )
        self.branch_proj = (
            nn.Sequential(*_conv(c_in, c_in, 3, stride, groups=c_in, relu=False), *_conv(c_in, c_in, 1, 1))
            if stride == 2
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.branch_proj is not None:
            return torch.cat((self.branch_proj(x), self.branch_main(x)), dim=1)
        return torch.cat((x[:, 0::2], self.branch_main(x[:, 1::2])), dim=1)


def _build() -> StagedBackbone:
    stages: dict[str, nn.Module] = {
        "stem": nn.Sequential(nn.Sequential(*_conv(3, 24, 3, 2)), nn.MaxPool2d(3, stride=2, padding=1))
    }
    channels = 24
    for number, (repeats, width) in enumerate(((4, 48), (8, 96), (4, 192)), start=2):
        units = [_Unit(channels, width, 2), *(_Unit(width // 2, width, 1) for _ in range(repeats - 1))]
        stages[f"stage{number}"] = nn.Sequential(*units)
        channels = width
    return StagedBackbone(stages, feature_dim=192)


def _rename(key: str) -> str | None:
    return key.replace("first_conv.", "stages.stem.0.") if key.startswith("first_conv.") else f"stages.{key}"


SPECS = (
    BackboneSpec(
        name="shufflenetv2_x0_5.imagenet",
        family="shufflenetv2",
        n_dims=2,
        in_channels=3,
        feature_dim=192,
        parameters=143_136,
        # x / 255 in BGR order: what the weights' BatchNorm statistics were found to match.
        normalization=replace(UNIT_RANGE, channel_order="BGR"),
        build=_build,
        licence="BSD-3-Clause",
        source="Ma et al., ShuffleNet V2, ECCV 2018",
        weights=Weights(
            file="shufflenetv2_x0_5_trunk_imagenet/shufflenetv2_x0_5_trunk.safetensors",
            sha256="c32ac7aed7de6254f15eddbaca2e5b0c8e2fa1483e4939e9c56852411eeba38c",
            pretrained_on="ImageNet-1k (by layout and behaviour; the source does not state it)",
            licence="BSD-3-Clause",
            source="github:dog-qiuqiu/FastestDet @ 50473cd155cb088aa4a99e64ff6a4b3c24fa07e1",
            rename=_rename,
        ),
        input_size=(224, 224),
    ),
)
