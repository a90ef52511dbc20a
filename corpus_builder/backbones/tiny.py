"""Two nets of a few thousand parameters, so that tests and the demo train in seconds."""

from __future__ import annotations

from torch import nn

from corpus_builder.backbones.spec import BackboneSpec, Normalization
from corpus_builder.backbones.stages import StagedBackbone

_WIDTHS = (8, 16, 32)


def _build(n_dims: int) -> StagedBackbone:
    conv, norm, pool = {
        2: (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d),
        3: (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d),
    }[n_dims]
    stages: dict[str, nn.Module] = {}
    for k, (c_in, c_out) in enumerate(zip((1, *_WIDTHS), _WIDTHS, strict=False), start=1):
        stages[f"stage{k}"] = nn.Sequential(
            conv(c_in, c_out, 3, padding=1, bias=False), norm(c_out), nn.ReLU(inplace=True), pool(2)
        )
    return StagedBackbone(stages, feature_dim=_WIDTHS[-1])


def _spec(n_dims: int, parameters: int) -> BackboneSpec:
    return BackboneSpec(
        name=f"tiny_{n_dims}d.scratch",
        family="tiny",
        n_dims=n_dims,
        in_channels=1,
        feature_dim=_WIDTHS[-1],
        parameters=parameters,
        normalization=Normalization("zscore"),
        build=lambda: _build(n_dims),
        licence="Apache-2.0",
        source="MedCurves",
        min_size=8,
    )


SPECS = (_spec(2, 5_944), _spec(3, 17_608))
