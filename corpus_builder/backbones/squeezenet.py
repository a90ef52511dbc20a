"""SqueezeNet 1.1 (Iandola et al., 2016): the trunk of fire modules, with layers numbered as in torchvision."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from corpus_builder.backbones.spec import IMAGENET, BackboneSpec, Weights
from corpus_builder.backbones.stages import StagedBackbone


class _Fire(nn.Module):
    def __init__(self, c_in: int, squeeze: int, c_out: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(c_in, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, c_out // 2, 1)
        self.expand3x3 = nn.Conv2d(squeeze, c_out // 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.squeeze(x))
        return torch.relu(torch.cat((self.expand1x1(x), self.expand3x3(x)), dim=1))


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


# Stage -> its layers by their number in the weights file.
_STAGES: dict[str, dict[int, tuple[int, int, int] | None]] = {  # None is a pooling layer
    "fire2_3": {3: (64, 16, 128), 4: (128, 16, 128)},
    "fire4_5": {5: None, 6: (128, 32, 256), 7: (256, 32, 256)},
    "fire6_7": {8: None, 9: (256, 48, 384), 10: (384, 48, 384)},
    "fire8_9": {11: (384, 64, 512), 12: (512, 64, 512)},
}
_STAGE_OF = {"0": "stem"} | {str(number): stage for stage, layers in _STAGES.items() for number in layers}


def _build() -> StagedBackbone:
    stages: dict[str, nn.Module] = {
        "stem": nn.Sequential(nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(inplace=True), _pool())
    }
    for stage, layers in _STAGES.items():
        modules = {str(number): _Fire(*widths) if widths else _pool() for number, widths in layers.items()}
        stages[stage] = nn.Sequential(OrderedDict(modules))
    return StagedBackbone(stages, feature_dim=512)


def _rename(key: str) -> str | None:
    part, number, _ = key.split(".", 2)
    return key.replace(f"{part}.", f"stages.{_STAGE_OF[number]}.", 1) if part == "features" else None


SPECS = (
    BackboneSpec(
        name="squeezenet1_1.imagenet",
        family="squeezenet",
        n_dims=2,
        in_channels=3,
        feature_dim=512,
        parameters=722_496,
        normalization=IMAGENET,
        build=_build,
        licence="Apache-2.0",
        source="Iandola et al., SqueezeNet, arXiv:1602.07360",
        weights=Weights(
            file="squeezenet1_1_imagenet/squeezenet1_1_imagenet.safetensors",
            sha256="102fa02ec826921aae2c3408f9f154381a466f8210fead01b8aa941ee607e4e8",
            pretrained_on="ImageNet-1k",
            licence="Apache-2.0",
            source="github:miaobin/test-data @ 1b11055b7f3196ffe9a97051e7f4d10c74a44914 (ONNX Model Zoo)",
            rename=_rename,
        ),
        input_size=(224, 224),
        min_size=17,  # the last pooling layer, which pads nothing, needs two rows
    ),
)
