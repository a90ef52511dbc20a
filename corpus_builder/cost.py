"""What a trial will probably cost, before it is run: from a calibration of the device, or else from operations."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from corpus_builder.backbones import ClassicalSpec, member_spec
from corpus_builder.backbones.describe import backbone_row
from corpus_builder.space import repeated_parts
from corpus_builder.train.records import Part, TrialData

if TYPE_CHECKING:
    from corpus_builder.datasets import Card
    from corpus_builder.plan import CostModel
    from corpus_builder.study import Study
    from corpus_builder.train.records import TrialSpec
    from metaquery.space import Config

NOMINAL_GFLOPS_PER_SECOND = 20.0
"""Between the 40 to 85 of ResNets and the 3 to 6 of ShuffleNet in `mini`, on one thread of a server's CPU."""

_PER_VOXEL = 20_000.0  # nominal operations of hand-crafted features: 1 ms per 1000 pixels or voxels at the nominal rate
_BACKWARD = 2.0  # a backward pass is twice the forward pass
_ASSUMED_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}  # of a published split whose card does not tell


class EpochCosts(Protocol):
    """A calibration: the cost of each epoch of a config on data of a shape."""

    def epoch_cost(self, config: Config, epoch: int, data: TrialData) -> tuple[float, float]:
        """Seconds of training and of evaluation of `epoch`, from 1; only the shapes of `data` count."""


def calibrated_cost(study: Study, calibration: EpochCosts) -> CostModel:
    """The cost of every trial as `calibration` has it; of a member without epochs, which it does not have, the nominal
    one."""
    nominal = nominal_cost(study)
    data = {card.name: shapes(study, card) for card in study.cards}

    @cache
    def seconds(dataset: str, config: Config, epochs: int) -> float:
        costs = (calibration.epoch_cost(config, epoch, data[dataset]) for epoch in range(1, epochs + 1))
        return float(sum(train + evaluation for train, evaluation in costs))

    def cost(spec: TrialSpec) -> float:
        if isinstance(member_spec(str(spec.config["backbone"])), ClassicalSpec):
            return nominal(spec)
        return _limited(seconds(spec.dataset, spec.config, spec.epochs), spec)

    return cost


def nominal_cost(study: Study, gflops_per_second: float = NOMINAL_GFLOPS_PER_SECOND) -> CostModel:
    """The cost of every trial at a fixed rate of floating-point operations.

    They are those of the forward pass, for every sample of every epoch, three times for a training sample: of frozen
    stages there is no backward pass, and only one forward pass of the parts of which every epoch shows the same images.
    Augmentation, optimizer and loading count nothing. A member without epochs is charged by its voxels.
    """
    sizes = {card.name: study.size(card) for card in study.cards}
    counts = {card.name: role_counts(card, study) for card in study.cards}

    @cache
    def forward(backbone: str, size: tuple[int, ...]) -> float | None:
        flops: int | None = backbone_row(backbone, size)["flops"]
        return flops

    def cost(spec: TrialSpec) -> float:
        size, count = sizes[spec.dataset], counts[spec.dataset]
        operations = forward(str(spec.config["backbone"]), size)
        if operations is None:
            total = _PER_VOXEL * float(np.prod(size)) * sum(count.values())
        else:
            frozen = float(spec.config.get("freeze", 0.0))
            n_train, n_eval = count["train"], count["val"] + count["test"]
            repeated = repeated_parts(spec.config)
            trunk = n_train * (1 if repeated == "all" else spec.epochs)
            trunk += n_eval * (spec.epochs if repeated == "none" else 1)
            tail = spec.epochs * ((1.0 + _BACKWARD) * n_train + n_eval)
            total = operations * (frozen * trunk + (1.0 - frozen) * tail)
        return _limited(total / (gflops_per_second * 1e9), spec)

    return cost


def _limited(seconds: float, spec: TrialSpec) -> float:
    return seconds if spec.time_limit_seconds is None else min(seconds, spec.time_limit_seconds)


def role_counts(card: Card, study: Study) -> dict[str, int]:
    """About how many samples each role has, after the caps, without reading the data."""
    if card.split.kind == "grouped":
        part = 1.0 / card.split.folds
        shares = {"train": 1.0 - 2.0 * part, "val": part, "test": part}
    else:
        shares = _ASSUMED_SHARES
    found = {role: int(card.split_counts.get(role, round(share * card.n_samples))) for role, share in shares.items()}
    return {role: min(count, study.caps.get(role) or count) for role, count in found.items()}


def shapes(study: Study, card: Card) -> TrialData:
    """Data with the shapes of those of `card` in `study`; all their values are one zero."""
    counts = role_counts(card, study)
    train, val, test = (_empty(counts[role], card, study.size(card)) for role in ("train", "val", "test"))
    return TrialData(train, val, test, n_classes=len(card.classes))


def _empty(count: int, card: Card, size: tuple[int, ...]) -> Part:
    images = np.broadcast_to(np.uint8(0), (count, card.channels, *size))
    return Part(images, np.broadcast_to(np.int64(0), (count,)))
