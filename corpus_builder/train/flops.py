"""Floating-point operations of a trial's epoch, counted without computing: what costs on two devices have in common."""

from __future__ import annotations

from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from corpus_builder.backbones import backbone_spec
from corpus_builder.space import repeated_parts
from corpus_builder.train.records import TrialData
from metaquery.space import Config

_BACKWARD = 2  # a backward pass needs twice the operations of the forward pass


def epoch_flops(config: Config, data: TrialData) -> tuple[float, float]:
    """Operations of one epoch of training, and of one evaluation of validation and test part, of `config` on `data`.

    A multiplication and an addition count as two. Frozen stages have no backward pass, and none at all where
    their outputs are kept.
    """
    size = data.train.images.shape[2:]
    trunk, tail = _forward_flops(str(config["backbone"]), size, float(config.get("freeze", 0.0)))
    repeated = repeated_parts(config)
    train_trunk, eval_trunk = (0 if repeated in kept else trunk for kept in (("all",), ("all", "evaluated")))
    batch_size = min(int(config["batch_size"]), len(data.train.labels))
    n_train = len(data.train.labels) // batch_size * batch_size
    n_eval = len(data.val.labels) + len(data.test.labels)
    return float(n_train * (train_trunk + (1 + _BACKWARD) * tail)), float(n_eval * (eval_trunk + tail))


@cache
def _forward_flops(backbone: str, size: tuple[int, ...], freeze: float) -> tuple[int, int]:
    """Operations of a forward pass of one sample: through the frozen stages, and through the others."""
    spec = backbone_spec(backbone)
    with torch.device("meta"), torch.no_grad():
        net = spec.build_for(size).eval()
        net.freeze(freeze)
        counters = FlopCounterMode(display=False), FlopCounterMode(display=False)
        with counters[0]:
            x = net.trunk(torch.empty(1, spec.in_channels, *size))
        with counters[1]:
            net.tail(x)
    return counters[0].get_total_flops(), counters[1].get_total_flops()
