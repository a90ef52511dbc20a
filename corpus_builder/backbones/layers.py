"""Layers that several families share."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SameConv2d(nn.Conv2d):
    """A convolution that pads as TensorFlow's `same`: ceil(size / stride) outputs, an odd pixel of padding at the end.

    Weights that TensorFlow trained with a stride expect this; symmetric padding shifts what they see by half a pixel.
    """

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads) if any(pads) else x)


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
