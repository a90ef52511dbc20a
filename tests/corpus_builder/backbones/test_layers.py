"""TensorFlow's `same` padding, by hand."""

from __future__ import annotations

import pytest
import torch

from corpus_builder.backbones.layers import SameConv2d


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
