"""The small ResNets of He et al. (CVPR 2016) for 32 x 32 images, with parameter-free shortcuts (option A)."""

from __future__ import annotations

import re
from collections import OrderedDict

import torch
from torch import Tensor, nn

from corpus_builder.backbones.layers import PadShortcut
from corpus_builder.backbones.spec import IMAGENET, BackboneSpec, Weights
from corpus_builder.backbones.stages import StagedBackbone


class _Block(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        pad = (c_out - c_in) // 2
        self.shortcut = PadShortcut(stride, pad, pad) if pad else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.shortcut(x))


def _build(depth: int) -> StagedBackbone:
    blocks = (depth - 2) // 6
    stem = nn.Sequential(
        OrderedDict(conv1=nn.Conv2d(3, 16, 3, 1, 1, bias=False), bn1=nn.BatchNorm2d(16), relu=nn.ReLU(inplace=True))
    )
    stages: dict[str, nn.Module] = {"stem": stem}
    channels = 16
    for number, width in enumerate((16, 32, 64), start=1):
        stride = 1 if number == 1 else 2
        layers = [_Block(channels if i == 0 else width, width, stride if i == 0 else 1) for i in range(blocks)]
        stages[f"layer{number}"] = nn.Sequential(*layers)
        channels = width
    return StagedBackbone(stages, feature_dim=64)


def _rename(key: str) -> str | None:
    if key.startswith("linear."):
        return None
    return f"stages.{key}" if re.match(r"layer\d", key) else f"stages.stem.{key}"


def _spec(depth: int, parameters: int, sha256: str) -> BackboneSpec:
    return BackboneSpec(
        name=f"resnet{depth}.cifar10",
        family="cifar_resnet",
        n_dims=2,
        in_channels=3,
        feature_dim=64,
        parameters=parameters,
        normalization=IMAGENET,
        build=lambda: _build(depth),
        licence="BSD-2-Clause",
        source="He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2",
        weights=Weights(
            file=f"resnet{depth}_cifar10/resnet{depth}_cifar10.safetensors",
            sha256=sha256,
            pretrained_on="CIFAR-10",
            licence="BSD-2-Clause",
            source="github:akamaster/pytorch_resnet_cifar10 @ d5489e8995e81e91ce6b1d69dcc98ad579b0b153",
            rename=_rename,
        ),
        input_size=(32, 32),
    )


SPECS = (
    _spec(20, 269_072, "02926273efb1deadb6dc654c7087baea932ef2026d9f854680d6858146d85838"),
    _spec(56, 852_368, "cf29b05e3acebb9dc28868ebd84a604ff452971bb6770f22beaff48708079aee"),
)
