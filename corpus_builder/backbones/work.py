"""What a forward pass consists of, counted on the meta device, where nothing is computed."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from corpus_builder.backbones.spec import BackboneSpec
from corpus_builder.backbones.stages import Backbone


class Work(NamedTuple):
    """A forward pass of one sample: floating-point operations, a multiplication and an addition counting as two,
    values written, and calls of torch that write some, of which a batch has as many as a sample."""

    flops: int
    values: int
    calls: int


def forward_work(spec: BackboneSpec, size: tuple[int, ...]) -> tuple[Backbone, Work]:
    """The net of `spec` for inputs of the spatial shape `size`, on the meta device, and its work for one of them."""
    with torch.device("meta"), torch.no_grad():
        net = spec.build_for(size).eval()
        x = torch.empty(1, spec.in_channels, *size)
        operations, traffic = FlopCounterMode(display=False), _Traffic()
        with operations, traffic:
            net(x)
    return net, Work(operations.get_total_flops(), traffic.values, traffic.calls)


class _Traffic(TorchDispatchMode):
    """Counts the calls that write something, and how much."""

    def __init__(self) -> None:
        super().__init__()
        self.values = self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        written = sum(leaf.numel() for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor))
        if written and not func.is_view:
            self.calls += 1
            self.values += written
        return found
