"""The image encoder of SAM-Med3D (Wang et al., 2023), a 3-D ViT-B with SAM's windows, from a file of the user's.

It was trained at 128 voxels a side: a grid of 8 patches, windows of 14 that reach beyond it, padded with zeros. Volumes
of other sizes are taken as the same field of view at another resolution: position embeddings, absolute and relative,
are interpolated to the grid, and where the grid is smaller, so are the windows, in proportion. Volumes are padded with
zeros at the end of each axis to a cube of whole patches, as only cubes were trained on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from corpus_builder.backbones.layers import resize_axis
from corpus_builder.backbones.spec import HUB, BackboneSpec, Normalization, Weights
from corpus_builder.backbones.stages import StagedBackbone

_PATCH, _GRID, _WINDOW = 16, 8, 14
_DIM, _HEADS, _OUT = 768, 12, 384
_DEPTH, _GROUP = 12, 3  # the last block of each group of three attends globally


class _Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv3d(1, _DIM, _PATCH, _PATCH)
        self.pos_embed = nn.Parameter(torch.zeros(1, *(_GRID,) * 3, _DIM))

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, d, h, w) -> (n, side, side, side, 768), for the longest of the three sides in patches."""
        side = max(-(-size // _PATCH) for size in x.shape[2:])
        pads = [pad for size in x.shape[:1:-1] for pad in (0, side * _PATCH - size)]
        x = torch.movedim(self.proj(F.pad(x, pads) if any(pads) else x), 1, -1)
        positions: Tensor = self.pos_embed
        for axis in (1, 2, 3):
            positions = resize_axis(positions, axis, side)
        return x + positions


class _Attention(nn.Module):
    """Multi-head attention with one table of relative positions per axis, added up (Li et al., MViTv2, CVPR 2022)."""

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(_DIM, 3 * _DIM)
        self.proj = nn.Linear(_DIM, _DIM)
        for axis in "dhw":
            self.register_parameter(f"rel_pos_{axis}", nn.Parameter(torch.zeros(2 * reach - 1, _DIM // _HEADS)))

    def forward(self, x: Tensor) -> Tensor:
        """(n, side, side, side, dim) -> the same shape."""
        n, side = x.shape[:2]
        q, k, v = self.qkv(x).reshape(n, side**3, 3, _HEADS, -1).permute(2, 0, 3, 1, 4)
        logits = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + self._bias(q.unflatten(2, (side,) * 3))
        y = logits.softmax(dim=-1) @ v
        projected: Tensor = self.proj(y.transpose(1, 2).reshape(x.shape))
        return projected

    def _bias(self, q: Tensor) -> Tensor:
        """What relative positions add to the logits, (n, heads, tokens, tokens), for q (n, heads, d, h, w, dim).

        The three terms are laid over the axes of queries and keys as in the published code, which is not where their
        names say (its 2-D indices met a tensor of one axis more): the weights were trained like that.
        """
        d, h, w = (torch.einsum(f"nadhwc,{axis}kc->nadhwk", q, self._distances(axis, q.shape[2])) for axis in "dhw")
        bias = d[:, :, :, :, :, None, None] + h[:, :, :, :, None, :, None] + w[:, :, :, :, None, None, :]
        return bias.flatten(5).flatten(2, 4)

    def _distances(self, axis: str, size: int) -> Tensor:
        """Embeddings of every pair of positions of one axis, (size, size, dim)."""
        table = resize_axis(getattr(self, f"rel_pos_{axis}"), 0, 2 * size - 1)
        position = torch.arange(size, device=table.device)
        return table[position[:, None] - position[None, :] + size - 1]


class _Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin1, self.lin2 = nn.Linear(_DIM, 4 * _DIM), nn.Linear(4 * _DIM, _DIM)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lin2(F.gelu(self.lin1(x)))
        return y


class _Block(nn.Module):
    def __init__(self, *, windows: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(_DIM, eps=1e-6), nn.LayerNorm(_DIM, eps=1e-6)
        self.attn = _Attention(_WINDOW if windows else _GRID)
        self.mlp = _Mlp()
        self.windows = windows

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + (self._in_windows(y) if self.windows else self.attn(y))
        z: Tensor = x + self.mlp(self.norm2(x))
        return z

    def _in_windows(self, x: Tensor) -> Tensor:
        n, side, *_, dim = x.shape
        window = min(_WINDOW, -(-_WINDOW * side // _GRID))
        x = F.pad(x, (0, 0, *(0, -side % window) * 3))
        count = x.shape[1] // window
        y = x.view(n, *(count, window) * 3, dim).permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, *(window,) * 3, dim)
        y = self.attn(y).view(n, *(count,) * 3, *(window,) * 3, dim).permute(0, 1, 4, 2, 5, 3, 6, 7)
        inside: Tensor = y.reshape(x.shape)[:, :side, :side, :side]
        return inside


class _ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of (n, c, *spatial)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.movedim(super().forward(torch.movedim(x, 1, -1)), -1, 1)


class _Neck(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv3d(_DIM, _OUT, 1, bias=False),
            _ChannelNorm(_OUT, eps=1e-6),
            nn.Conv3d(_OUT, _OUT, 3, padding=1, bias=False),
            _ChannelNorm(_OUT, eps=1e-6),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(torch.movedim(x, -1, 1))
        return y


def _build() -> StagedBackbone:
    stages: dict[str, nn.Module] = {"patches": _Patches()}
    for number in range(_DEPTH // _GROUP):
        blocks = [_Block(windows=i < _GROUP - 1) for i in range(_GROUP)]
        stages[f"blocks{number + 1}"] = nn.Sequential(*blocks)
    return StagedBackbone(stages | {"neck": _Neck()}, feature_dim=_OUT)


def _rename(key: str) -> str | None:
    part, _, rest = key.removeprefix("module.").partition(".")
    if part != "image_encoder":
        return None
    if rest == "pos_embed" or rest.startswith("patch_embed."):
        return f"stages.patches.{rest.removeprefix('patch_embed.')}"
    if rest.startswith("blocks."):
        _, number, rest = rest.split(".", 2)
        return f"stages.blocks{int(number) // _GROUP + 1}.{int(number) % _GROUP}.{rest}"
    return f"stages.{rest}"


def _spec(pretraining: str, pretrained_on: str) -> BackboneSpec:
    return BackboneSpec(
        name=f"sam_vit_b_3d.{pretraining}",
        family="sam_med3d",
        n_dims=3,
        in_channels=1,
        feature_dim=_OUT,
        parameters=92_924_928,
        normalization=Normalization("zscore"),  # the published code takes the statistics of voxels above zero
        build=_build,
        licence="Apache-2.0",
        source="Wang et al., SAM-Med3D, arXiv:2310.15161; Kirillov et al., Segment Anything, ICCV 2023",
        weights=Weights(
            file=f"sam_med3d/{pretraining}.pth",
            sha256="",
            pretrained_on=pretrained_on,
            licence="Apache-2.0",
            source=f"{HUB}blueyo0/SAM-Med3D",
            rename=_rename,
        ),
        input_size=(128, 128, 128),
    )


SPECS = (
    _spec("sam_med3d", "SA-Med3D-140K, CT, MR and ultrasound (promptable segmentation)"),
    _spec("sam_med3d_turbo", "SA-Med3D-140K, trained further (promptable segmentation)"),
)
