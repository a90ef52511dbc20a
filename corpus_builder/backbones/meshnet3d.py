"""3-D MeshNets (Fedorov et al., 2017): dilated convolutions at full resolution, trained to segment T1 brain MRI."""

from __future__ import annotations

import re
from collections import OrderedDict
from functools import partial

from torch import nn

from corpus_builder.backbones.spec import BackboneSpec, Normalization, Weights
from corpus_builder.backbones.stages import StagedBackbone

# The dilation of every layer, grouped into stages: context grows, is widest in the middle, and shrinks again.
_SHORT = ((1, 2), (4, 8), (16,), (8, 4), (2, 1))
_LONG = ((1, 2, 3, 4), (5, 6, 7, 8), (12, 16, 12), (8, 7, 6, 5), (4, 3, 2, 1))
_Dilations = tuple[tuple[int, ...], ...]


def _layer(c_in: int, c_out: int, dilation: int, *, batch_norm: bool) -> nn.Sequential:
    conv = nn.Conv3d(c_in, c_out, 3, padding=dilation, dilation=dilation)
    return nn.Sequential(conv, *([nn.BatchNorm3d(c_out)] if batch_norm else []), nn.ELU(inplace=True))


def _build(dilations: _Dilations, channels: int, *, batch_norm: bool) -> StagedBackbone:
    stages: dict[str, nn.Module] = {}
    number = 0
    for group, members in enumerate(dilations, start=1):
        layers = OrderedDict[str, nn.Module]()
        for dilation in members:  # layers keep the number they have in the weights file
            layers[str(number)] = _layer(channels if number else 1, channels, dilation, batch_norm=batch_norm)
            number += 1
        stages[f"group{group}"] = nn.Sequential(layers)
    return StagedBackbone(stages, feature_dim=channels)


def _rename(dilations: _Dilations, key: str) -> str | None:
    feature = re.fullmatch(r"(?:features|model)\.(\d+)\.(\d\.\w+)", key)  # the output layer has no inner number
    if feature is None:
        return None
    number, rest = feature.groups()
    group = [g for g, members in enumerate(dilations, start=1) for _ in members][int(number)]
    return f"stages.group{group}.{number}.{rest}"


def _spec(
    name: str,
    dilations: _Dilations,
    channels: int,
    *,
    batch_norm: bool,
    parameters: int,
    folder: str,
    sha256: str,
    pretrained_on: str,
) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        family="meshnet3d",
        n_dims=3,
        in_channels=1,
        feature_dim=channels,
        parameters=parameters,
        normalization=Normalization("percentile"),
        build=lambda: _build(dilations, channels, batch_norm=batch_norm),
        licence="MIT",
        source="Fedorov et al., End-to-end learning of brain tissue segmentation, arXiv:1612.00940; "
        "Masoud et al., Brainchop, JOSS 2023",
        weights=Weights(
            file=f"{folder}/{folder}.safetensors",
            sha256=sha256,
            pretrained_on=pretrained_on,
            licence="MIT",
            source="github:neuroneural/brainchop @ 4c87885f3a2a8835e260d521dcec922b58d91d41",
            rename=partial(_rename, dilations),
        ),
        input_size=(256, 256, 256),
    )


SPECS = (
    _spec(
        "meshnet3d_30ch.brain18",
        _SHORT,
        30,
        batch_norm=False,
        parameters=195_480,
        folder="meshnet3d_model30chan18cls",
        sha256="448242f2e2ca082c41fa60ff7ea51dd9c713549c48f063791eaac72c6f733fe3",
        pretrained_on="T1 brain MRI (segmentation of 18 tissue and subcortical classes)",
    ),
    _spec(
        "meshnet3d_15ch_bn.brain_gwm",
        _LONG,
        15,
        batch_norm=True,
        parameters=110_610,
        folder="meshnet3d_gwm_15ch_bn",
        sha256="8308688b9432294e51f1078adaf1a042d00d93adb95c0fb46a742ea674ca186d",
        pretrained_on="T1 brain MRI (segmentation of grey and white matter)",
    ),
)
