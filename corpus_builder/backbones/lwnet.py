"""The encoder of the first U-Net of a W-Net that was trained on the vessels of the retina (Galdran et al., 2022)."""

from __future__ import annotations

import re

from torch import Tensor, nn

from corpus_builder.backbones.spec import UNIT_RANGE, BackboneSpec, Weights
from corpus_builder.backbones.stages import StagedBackbone

_WIDTHS = (8, 16, 32, 64)


def _conv(c_in: int, c_out: int) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU(inplace=True), nn.BatchNorm2d(c_out)]


class _Block(nn.Module):
    def __init__(self, c_in: int, c_out: int, *, pool: bool) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
        self.block = nn.Sequential(*_conv(c_in, c_out), *_conv(c_out, c_out))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        y: Tensor = self.block(x) + self.shortcut(x)
        return y


def _build() -> StagedBackbone:
    blocks = [_Block(c_in, c_out, pool=c_in != 3) for c_in, c_out in zip((3, *_WIDTHS), _WIDTHS, strict=False)]
    return StagedBackbone({f"level{k}": block for k, block in enumerate(blocks)}, feature_dim=_WIDTHS[-1])


def _rename(key: str) -> str | None:
    encoder = re.fullmatch(r"unet1\.(?:first|down_path\.(\d))\.(.+)", key)
    if encoder is None:
        return None
    down, rest = encoder.groups()
    return f"stages.level{int(down) + 1 if down else 0}.{rest}"


SPECS = (
    BackboneSpec(
        name="lwnet.drive_artery_vein",
        family="lwnet",
        n_dims=2,
        in_channels=3,
        feature_dim=64,
        parameters=77_040,
        normalization=UNIT_RANGE,
        build=_build,
        licence="MIT",
        source="Galdran et al., State-of-the-art retinal vessel segmentation with minimalistic models, Sci. Rep. 2022",
        weights=Weights(
            file="lwnet_big_wnet_drive_artery_vein/lwnet_big_wnet_drive_artery_vein.safetensors",
            sha256="d353f3dc3d8a4c37591a7882e358f5bdcecb61f58b50e91b62b29ed7775f58ae",
            pretrained_on="DRIVE fundus photographs (artery and vein segmentation)",
            licence="MIT",
            source="github:agaldran/lwnet @ ce72ddabcf5fc9af14197ac0d43bd29000b17df2",
            rename=_rename,
        ),
        min_size=8,
    ),
)
