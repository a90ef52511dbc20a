"""TensorFlow's `same` padding, by hand; interpolation and shortcuts against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from corpus_builder.backbones.layers import PadShortcut, SameConv2d, SameConv3d, pad_to_multiple, resize_axis


@pytest.mark.parametrize(
    ("size", "stride", "expected"),
    [
        ((4, 4), 2, [[9, 6], [6, 4]]),  # one pixel short: it is added at the end, so the first window is full
        ((5, 5), 2, [[4, 6, 4], [6, 9, 6], [4, 6, 4]]),  # two short: one at each end
        ((4, 5), 2, [[6, 9, 6], [4, 6, 4]]),  # each axis has its own padding
        ((1, 1), 2, [[1]]),
        ((2, 3), 1, [[4, 6, 4], [4, 6, 4]]),
    ],
)
def test_same_padding_counts_the_pixels_that_each_window_sees(size, stride, expected):
    conv = SameConv2d(1, 1, 3, stride, bias=False)
    torch.nn.init.ones_(conv.weight)
    with torch.no_grad():
        assert conv(torch.ones(1, 1, *size))[0, 0].tolist() == expected


def test_same_padding_in_3d_is_that_of_every_axis():
    conv = SameConv3d(1, 1, 3, 2, bias=False)
    torch.nn.init.ones_(conv.weight)
    with torch.no_grad():
        seen = conv(torch.ones(1, 1, 4, 5, 1))[0, 0]
    assert seen[..., 0].tolist() == [[6, 9, 6], [4, 6, 4]]


@pytest.mark.parametrize("size", [(7, 3), (2, 2), (4, 4), (1, 9)])
def test_resizing_axis_by_axis_is_bilinear_interpolation(size):
    x = torch.randn(2, 3, 4, 4)
    expected = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    found = resize_axis(resize_axis(x, 2, size[0]), 3, size[1])
    assert torch.allclose(found, expected, atol=1e-6)
    assert resize_axis(x, 2, 4) is x


def test_padding_to_a_multiple_adds_zeros_at_the_ends():
    x = torch.ones(1, 2, 3, 4, 1)
    padded = pad_to_multiple(x, 4)
    assert padded.shape == (1, 2, 4, 4, 4)
    assert torch.equal(padded[:, :, :3, :, :1], x)
    assert padded.sum() == x.sum()
    assert pad_to_multiple(padded, 4) is padded


@pytest.mark.parametrize("dims", [(5, 4), (3, 4, 5)])
def test_a_shortcut_takes_every_second_position_and_adds_channels_of_zeros(dims):
    x = torch.randn(2, 3, *dims)
    y = PadShortcut(2, 1, 2)(x)
    assert y.shape == (2, 6, *(-(-d // 2) for d in dims))
    assert torch.equal(y[:, 1:4], x[:, :, ::2, ::2] if len(dims) == 2 else x[:, :, ::2, ::2, ::2])
    assert not y[:, [0, 4, 5]].any()
