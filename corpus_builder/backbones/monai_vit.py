"""Vision transformers of MONAI (Dosovitskiy et al., ICLR 2021), 2-D and 3-D, from random weights.

An image is padded with zeros at the end of each axis to whole patches. Position embeddings belong to a grid of fixed
size and are interpolated to the image's, so one net takes every size. There is no class token: tokens are averaged.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from corpus_builder.backbones.layers import pad_to_multiple, resize_axis
from corpus_builder.backbones.spec import BackboneSpec, Normalization
from corpus_builder.backbones.stages import StagedBackbone
from metaquery.errors import InvalidInput

_GRID = 4  # patches a side that the position embeddings are for


class _Patches(nn.Module):
    """Images (n, c, *spatial) to tokens (n, tokens, dim): a patch projection plus interpolated position embeddings."""

    def __init__(self, project: nn.Conv2d | nn.Conv3d, positions: nn.Parameter, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.project, self.positions, self.grid = project, positions, grid

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(pad_to_multiple(x, self.project.kernel_size[0]))
        positions = self.positions.transpose(1, 2).unflatten(2, self.grid)
        for axis, size in enumerate(x.shape[2:], start=2):
            positions = resize_axis(positions, axis, size)
        tokens: Tensor = (x + positions).flatten(2).transpose(1, 2)
        return tokens


class _ChannelsFirst(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)  # (n, tokens, dim) -> (n, dim, tokens), so that pooling averages the tokens


def stages(net: Any) -> dict[str, nn.Module]:
    """Patches, four groups of blocks and the last norm of a MONAI ViT; InvalidInput where patches are not cubes."""
    project, positions = net.patch_embedding.patch_embeddings, net.patch_embedding.position_embeddings
    n_dims = len(getattr(project, "kernel_size", ()))
    side = round(positions.shape[1] ** (1 / n_dims)) if n_dims else 0
    if not n_dims or side**n_dims != positions.shape[1] or len(set(project.kernel_size)) > 1:
        raise InvalidInput(
            f"cannot use this ViT: expected a convolution over patches, as long as wide, of an image as long as wide, "
            f"got {project} and {positions.shape[1]} positions"
        )
    found: dict[str, nn.Module] = {"patches": _Patches(project, positions, (side,) * n_dims)}
    for block in net.blocks:
        block.norm_cross_attn = nn.Identity()  # of an attention that is not there
    group = -(-len(net.blocks) // 4)
    for number, start in enumerate(range(0, len(net.blocks), group), start=1):
        found[f"blocks{number}"] = nn.Sequential(*net.blocks[start : start + group])
    return found | {"norm": nn.Sequential(net.norm, _ChannelsFirst())}


def _build(n_dims: int, patch: int) -> StagedBackbone:
    from monai.networks.nets.vit import ViT

    net = ViT(
        in_channels=1,
        img_size=patch * _GRID,
        patch_size=patch,
        hidden_size=192,
        mlp_dim=768,
        num_layers=12,
        num_heads=3,
        spatial_dims=n_dims,
        qkv_bias=True,
    )
    return StagedBackbone(stages(net), feature_dim=192)


def _spec(name: str, n_dims: int, patch: int, parameters: int) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        family="vit",
        n_dims=n_dims,
        in_channels=1,
        feature_dim=192,
        parameters=parameters,
        normalization=Normalization("zscore"),
        build=partial(_build, n_dims, patch),
        licence="Apache-2.0",
        source="monai.networks.nets.vit (Dosovitskiy et al., ICLR 2021; tiny as in Touvron et al., DeiT, ICML 2021)",
    )


SPECS = (
    _spec("vit_tiny_8.scratch", 2, 8, 5_354_304),
    _spec("vit_tiny_16.scratch", 2, 16, 5_391_168),
    _spec("vit_tiny_8_3d.scratch", 3, 8, 5_449_536),
)
