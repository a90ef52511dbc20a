"""MobileNetV2 (Sandler et al., CVPR 2018) at width 1, as GluonCV (torchvision's names) and as TensorFlow trained it."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from corpus_builder.backbones.layers import conv_bn
from corpus_builder.backbones.spec import CENTRED_AT_128, IMAGENET, BackboneSpec, Normalization, Weights
from corpus_builder.backbones.stages import StagedBackbone

# (stage, blocks, channels, stride of the first block); the rows are the block groups of the paper's table 2.
_GROUPS = (
    ("stem", 1, 16, 1),
    ("stride4", 2, 24, 2),
    ("stride8", 3, 32, 2),
    ("stride16", 4, 64, 2),
    ("stride16", 3, 96, 1),
    ("stride32", 3, 160, 2),
    ("stride32", 1, 320, 1),
)
_STAGE_OF_BLOCK = [stage for stage, blocks, _, _ in _GROUPS for _ in range(blocks)]
_FIRST_BLOCK = [sum(blocks for _, blocks, _, _ in _GROUPS[:group]) for group in range(len(_GROUPS))]


class _Block(nn.Module):
    """An inverted residual; `expansion` None leaves the expanding convolution out."""

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int | None, *, same: bool) -> None:
        super().__init__()
        mid = c_in * (expansion or 1)
        layers = OrderedDict[str, nn.Module]()
        if expansion is not None:
            layers["expand"] = conv_bn(c_in, mid, 1, activation=nn.ReLU6)
        layers["depthwise"] = conv_bn(mid, mid, 3, stride, groups=mid, same=same, activation=nn.ReLU6)
        layers["project"] = conv_bn(mid, c_out, 1, activation=None)
        self.layers = nn.Sequential(layers)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


def _build(first_expansion: int | None, *, same: bool) -> StagedBackbone:
    stages: dict[str, OrderedDict[str, nn.Module]] = {stage: OrderedDict() for stage in _STAGE_OF_BLOCK}
    stages["stem"]["conv"] = conv_bn(3, 32, 3, 2, same=same, activation=nn.ReLU6)
    channels, number = 32, 0
    for stage, blocks, width, stride in _GROUPS:
        for i in range(blocks):
            expansion = 6 if number else first_expansion
            block = _Block(channels, width, stride if i == 0 else 1, expansion, same=same)
            stages[stage][f"block{number}"] = block
            channels, number = width, number + 1
    stages["head"] = OrderedDict(conv=conv_bn(channels, 1280, 1, activation=nn.ReLU6))
    return StagedBackbone({stage: nn.Sequential(layers) for stage, layers in stages.items()}, feature_dim=1280)


def _in_block(number: int, layer: str, rest: str) -> str:
    return f"stages.{_STAGE_OF_BLOCK[number]}.block{number}.layers.{layer}.{rest}"


def _rename_torchvision(key: str) -> str | None:
    if block := re.fullmatch(r"features\.(\d+)\.conv\.(0\.0|0\.1|1\.0|1\.1|2|3)\.(\w+)", key):
        number, position, rest = block.groups()
        layer = {"2": "project.0", "3": "project.1"}.get(position)
        layer = layer or f"{('expand', 'depthwise')[int(position[0])]}{position[1:]}"
        return _in_block(int(number) - 1, layer, rest)
    for prefix, stage in (("features.0.", "stem"), ("features.18.", "head")):
        if key.startswith(prefix):
            return f"stages.{stage}.conv.{key.removeprefix(prefix)}"
    return None


def _rename_timm(key: str) -> str | None:
    if block := re.fullmatch(r"blocks\.(\d)\.(\d)\.(\w+)\.(\w+)", key):
        group, i, part, rest = block.groups()
        layers = ["depthwise", "project"] if group == "0" else ["expand", "depthwise", "project"]
        convs = ["conv_dw", "conv_pw"] if group == "0" else ["conv_pw", "conv_dw", "conv_pwl"]
        layer = f"{layers[convs.index(part)]}.0" if part in convs else f"{layers[int(part[2:]) - 1]}.1"
        return _in_block(_FIRST_BLOCK[int(group)] + int(i), layer, rest)
    part, rest = key.split(".")
    position = {"conv_stem": "stem.conv.0", "bn1": "stem.conv.1", "conv_head": "head.conv.0", "bn2": "head.conv.1"}
    return f"stages.{position[part]}.{rest}" if part in position else None


def _spec(
    name: str,
    build: Callable[[], StagedBackbone],
    *,
    parameters: int,
    normalization: Normalization,
    weights: Weights,
) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        family="mobilenetv2",
        n_dims=2,
        in_channels=3,
        feature_dim=1280,
        parameters=parameters,
        normalization=normalization,
        build=build,
        licence="Apache-2.0",
        source="Sandler et al., MobileNetV2, CVPR 2018",
        weights=weights,
        input_size=(224, 224),
    )


SPECS = (
    _spec(
        "mobilenetv2_100.imagenet",
        lambda: _build(1, same=False),  # GluonCV keeps an expanding convolution in the first block
        parameters=2_224_960,
        normalization=IMAGENET,
        weights=Weights(
            file="mobilenetv2_100_gluon_imagenet/mobilenetv2_100_gluon_imagenet_features.safetensors",
            sha256="b8188dcebab136b0e2a2e8bf8f3a1b797b2a32785622b6aad682208a889a7a0d",
            pretrained_on="ImageNet-1k",
            licence="Apache-2.0",
            source="github:miaobin/test-data @ 1b11055b7f3196ffe9a97051e7f4d10c74a44914 (ONNX Model Zoo)",
            rename=_rename_torchvision,
        ),
    ),
    _spec(
        "mobilenetv2_100.inat_bird",
        lambda: _build(None, same=True),
        parameters=2_223_872,
        normalization=CENTRED_AT_128,
        weights=Weights(
            file="mobilenetv2_100_tf_inat_bird_q8/mobilenetv2_100_tf_inat_bird_q8.safetensors",
            sha256="a52e892777f783c8983e622da92f26c31f6775a6e2ca90444f925bba5315e538",
            pretrained_on="iNaturalist 2017 birds (8-bit weights, BatchNorm statistics estimated anew)",
            licence="Apache-2.0",
            source="github:google-coral/edgetpu @ 5020de9386ff370dcc1f63291a2d0f98eeb98adb",
            rename=_rename_timm,
        ),
    ),
)
