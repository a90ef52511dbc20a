"""MobileNetV1 (Howard et al., 2017) at widths 0.5 and 0.25, padded as in TensorFlow, where its weights come from."""

from __future__ import annotations

import re

from torch import nn

from corpus_builder.backbones.layers import conv_bn
from corpus_builder.backbones.spec import CENTRED_AT_128, UNIT_RANGE, BackboneSpec, Normalization, Weights
from corpus_builder.backbones.stages import StagedBackbone

_Activation = type[nn.ReLU | nn.ReLU6]
# Stage -> blocks, channels at full width, and the stride of its first block.
_STAGES = {
    "stride2": (1, 64, 1),
    "stride4": (2, 128, 2),
    "stride8": (2, 256, 2),
    "stride16": (6, 512, 2),
    "stride32": (2, 1024, 2),
}
_PARTS = {"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "1.0", "bn2": "1.1"}  # timm's names -> position in a block


def _block(c_in: int, c_out: int, stride: int, activation: _Activation) -> nn.Sequential:
    return nn.Sequential(
        conv_bn(c_in, c_in, 3, stride, groups=c_in, same=True, activation=activation),
        conv_bn(c_in, c_out, 1, activation=activation),
    )


def _build(width: float, activation: _Activation) -> StagedBackbone:
    channels = int(32 * width)
    stages: dict[str, nn.Module] = {"stem": conv_bn(3, channels, 3, 2, same=True, activation=activation)}
    for stage, (blocks, full, stride) in _STAGES.items():
        c_out = int(full * width)
        layers = [_block(channels, c_out, stride, activation)]
        layers += [_block(c_out, c_out, 1, activation) for _ in range(blocks - 1)]
        stages[stage] = nn.Sequential(*layers)
        channels = c_out
    return StagedBackbone(stages, feature_dim=channels)


def _rename(key: str) -> str | None:
    if block := re.fullmatch(r"blocks\.(\d)\.(\d)\.(\w+)\.(\w+)", key):
        stage, number, part, rest = block.groups()
        return f"stages.{list(_STAGES)[int(stage)]}.{number}.{_PARTS[part]}.{rest}"
    part, rest = key.split(".")
    position = {"conv_stem": "0", "bn1": "1"}.get(part)
    return f"stages.stem.{position}.{rest}" if position else None


def _spec(
    name: str,
    width: float,
    activation: _Activation,
    *,
    parameters: int,
    normalization: Normalization,
    folder: str,
    sha256: str,
    pretrained_on: str,
    weights_source: str,
    input_size: tuple[int, int],
) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        family="mobilenetv1",
        n_dims=2,
        in_channels=3,
        feature_dim=int(1024 * width),
        parameters=parameters,
        normalization=normalization,
        build=lambda: _build(width, activation),
        licence="Apache-2.0",
        source="Howard et al., MobileNets, arXiv:1704.04861",
        weights=Weights(
            file=f"{folder}/{folder}.safetensors",
            sha256=sha256,
            pretrained_on=pretrained_on,
            licence="Apache-2.0",
            source=weights_source,
            rename=_rename,
        ),
        input_size=input_size,
    )


SPECS = (
    _spec(
        "mobilenetv1_050.imagenet",
        0.5,
        nn.ReLU6,
        parameters=818_592,
        normalization=CENTRED_AT_128,
        folder="mobilenetv1_050_tf_imagenet_q8",
        sha256="388ce62cc0dd2619c6828b8af8e7b54cebee5332df8c1c2e9af47e421e5981ea",
        pretrained_on="ImageNet-1k (8-bit weights, BatchNorm statistics estimated anew)",
        weights_source="github:google-coral/edgetpu @ 5020de9386ff370dcc1f63291a2d0f98eeb98adb",
        input_size=(160, 160),
    ),
    _spec(
        "mobilenetv1_025.vww",
        0.25,
        nn.ReLU,
        parameters=213_072,
        normalization=UNIT_RANGE,
        folder="mobilenetv1_025_vww96",
        sha256="64ceb8a3be30d17b1173730f2b36b7fa861e2267bc0561ef5e07a17940efaafb",
        pretrained_on="Visual Wake Words (COCO 2014, person or none)",
        weights_source="github:mlcommons/tiny @ 1afd2c9820f795965a6134facd0b4dfae41ef23f",
        input_size=(96, 96),
    ),
)
