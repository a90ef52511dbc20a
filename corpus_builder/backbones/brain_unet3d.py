"""Encoders of two 3-D U-Nets that were trained on T1 brain MRI: the hippodeep head net and deepbrain."""

from __future__ import annotations

import re
from collections import OrderedDict

from torch import nn

from corpus_builder.backbones.spec import BackboneSpec, Normalization, Weights
from corpus_builder.backbones.stages import StagedBackbone


def _conv(c_in: int, c_out: int) -> nn.Conv3d:
    return nn.Conv3d(c_in, c_out, 3, padding=1)


def _build_hippodeep() -> StagedBackbone:
    stages: dict[str, nn.Module] = {}
    for k, (c_in, mid, c_out) in enumerate(((1, 8, 8), (8, 16, 24), (24, 24, 32), (32, 48, 48))):
        layers = OrderedDict[str, nn.Module](
            conva=_conv(c_in, mid), elua=nn.ELU(), convb=_conv(mid, c_out), bna=nn.BatchNorm3d(c_out), elub=nn.ELU()
        )
        if k:
            layers["pool"] = nn.MaxPool3d(2)
            layers.move_to_end("pool", last=False)
        stages[f"level{k}"] = nn.Sequential(layers)
    return StagedBackbone(stages, feature_dim=48)


def _rename_hippodeep(key: str) -> str | None:
    encoder = re.fullmatch(r"(conv|bn)([0-3])([ab])\.(.+)", key)
    if encoder is None:
        return None
    kind, level, letter, rest = encoder.groups()
    return f"stages.level{level}.{kind}{letter}.{rest}" if (kind, letter) != ("bn", "b") else None


def _build_deepbrain() -> StagedBackbone:
    stages: dict[str, nn.Module] = {}
    for k, (c_in, width) in enumerate(((1, 16), (16, 32), (32, 64)), start=1):
        stages[f"enc{k}"] = nn.Sequential(
            _conv(c_in, width), nn.ReLU(inplace=True), _conv(width, width), nn.ReLU(inplace=True), nn.MaxPool3d(2)
        )
    return StagedBackbone(stages, feature_dim=64)


def _rename_deepbrain(key: str) -> str | None:
    encoder = re.fullmatch(r"(enc[123])\.([01])\.(.+)", key)
    if encoder is None:
        return None
    stage, number, rest = encoder.groups()
    return f"stages.{stage}.{2 * int(number)}.{rest}"


SPECS = (
    BackboneSpec(
        name="hippodeep_head.t1_brain",
        family="brain_unet3d",
        n_dims=3,
        in_channels=1,
        feature_dim=48,
        parameters=156_168,
        normalization=Normalization("zscore"),
        build=_build_hippodeep,
        licence="MIT",
        source="Thyreau et al., Segmentation of the hippocampus by transferring algorithmic knowledge, MedIA 2018",
        weights=Weights(
            file="hippodeep_head_unet3d/hippodeep_head_unet3d.safetensors",
            sha256="4a335f161df9bb5cb781a26d599f7677b18b006ee992958d1b366bde350da6ec",
            pretrained_on="T1 brain MRI of several cohorts (head and brain mask)",
            licence="MIT",
            source="github:bthyreau/hippodeep_pytorch @ 310305fe5a928b1da3e98e7c1384490881690593",
            rename=_rename_hippodeep,
        ),
        input_size=(64, 64, 64),
        min_size=8,
    ),
    BackboneSpec(
        name="deepbrain.t1_brain",
        family="brain_unet3d",
        n_dims=3,
        in_channels=1,
        feature_dim=64,
        parameters=214_928,
        normalization=Normalization("max"),
        build=_build_deepbrain,
        licence="MIT",
        source="I. Itzcovich, DeepBrain, GitHub 2018",
        weights=Weights(
            file="deepbrain_unet3d/deepbrain_unet3d.safetensors",
            sha256="c2869e9dbc499a70a8deec8c3d9377c1e163d1eb1e6f2138048bbcb8390ff755",
            pretrained_on="T1 brain MRI of CC-359, NFBS and ADNI (skull stripping)",
            licence="MIT",
            source="github:iitzco/deepbrain @ dbeff0ea67fb12317e62c9d957e902b230fa8bdf",
            rename=_rename_deepbrain,
        ),
        input_size=(128, 128, 128),
        min_size=8,
    ),
)
