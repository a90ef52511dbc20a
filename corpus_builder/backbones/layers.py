"""Layers that several families share, for any number of spatial dimensions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's `same` padding of one axis, start and end: ceil(size / stride) outputs, an odd pixel at the end."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class _SamePadding(nn.modules.conv._ConvNd):
    """A convolution that pads as TensorFlow's `same`.

    Weights that TensorFlow trained with a stride expect this; symmetric padding shifts what they see by half a pixel.
    """

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            pads += same_padding(size, kernel, stride)
        y: Tensor = super().forward(F.pad(x, pads) if any(pads) else x)
        return y


class SameConv2d(_SamePadding, nn.Conv2d):
    """A 2-D convolution that pads as TensorFlow's `same`."""


class SameConv3d(_SamePadding, nn.Conv3d):
    """A 3-D convolution that pads as TensorFlow's `same`."""


def conv_bn(
    c_in: int,
    c_out: int,
    kernel: int,
    stride: int = 1,
    *,
    groups: int = 1,
    same: bool = False,
    activation: type[nn.ReLU | nn.ReLU6] | None,
) -> nn.Sequential:
    """Convolution without bias, BatchNorm and, unless None, `activation`; `same` pads as TensorFlow does."""
    conv = (
        SameConv2d(c_in, c_out, kernel, stride, groups=groups, bias=False)
        if same
        else nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    )
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), *([activation(inplace=True)] if activation else []))


class PadShortcut(nn.Module):
    """The parameter-free shortcut of He et al. (CVPR 2016), option A: every stride-th position, channels of zeros."""

    def __init__(self, stride: int, before: int, after: int) -> None:
        super().__init__()
        self.stride, self.before, self.after = stride, before, after

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, *spatial) -> (n, before + c + after, *ceil(spatial / stride))."""
        n_dims = x.ndim - 2
        x = x[(slice(None), slice(None), *[slice(None, None, self.stride)] * n_dims)]
        return F.pad(x, (*[0, 0] * n_dims, self.before, self.after))


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Zeros at the end of every spatial axis of (n, c, *spatial), up to the next multiple."""
    pads = [pad for size in x.shape[:1:-1] for pad in (0, -size % multiple)]
    return F.pad(x, pads) if any(pads) else x


def resize_axis(x: Tensor, axis: int, size: int) -> Tensor:
    """Linear interpolation of one axis to `size`, between the centres of its cells.

    Along several axes one after another this is bilinear and trilinear interpolation. As a matrix product it has a
    deterministic gradient on every device, which torch's own trilinear interpolation has not.
    """
    if x.shape[axis] == size:
        return x
    identity = torch.eye(x.shape[axis], dtype=x.dtype, device=x.device)
    matrix = F.interpolate(identity[None], size=size, mode="linear", align_corners=False)[0]
    return torch.movedim(torch.movedim(x, axis, -1) @ matrix, -1, axis)
