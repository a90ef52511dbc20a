"""What a trial will probably cost, before it is run: from a calibration of the device, or else from operations."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from corpus_builder.backbones import ClassicalSpec, member_spec
from corpus_builder.space import repeated_parts
from corpus_builder.train.records import Part, TrialData

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corpus_builder.backbones.work import Work
    from corpus_builder.datasets import Card
    from corpus_builder.plan import CostModel
    from corpus_builder.study import Study
    from corpus_builder.train.records import TrialSpec
    from metaquery.space import Config

# One thread of a server's CPU that does other work too. The ratios of these rates were fitted to the images a second of
# 14 backbones in 2-D (64x64) and 11 in 3-D (32x32x32), trained and evaluated in batches of 16, their size to 131 runs.
# 47 of the 50 rates are within a factor of 2 of what they predict (half within 1.5), as are all 25 trainings of 27
# epochs that they add up to. Of 23 backbones x freezing in the runs all but two are: linear probes of hippodeep and
# of MobileNet in 3-D take 2.3 times as long as predicted; depthwise and dilated 3-D convolutions cost too little.
_FLOPS_PER_SECOND = 64e9
_VALUES_PER_SECOND = 1.2e9
_CALL_SECONDS = 75e-6
_STEP = 3.0  # a training step takes so many times as long as the forward pass
_OTHER_CALLS = 6  # of head, loss and optimizer, whatever the backbone: from linear probes of `mini`
_VOXEL_SECONDS = 1.2e-6  # of all hand-crafted features and their classifier: 0.7 of what is taken in 2-D, 1.4 in 3-D

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


def nominal_cost(study: Study, speed: float = 1.0) -> CostModel:
    """The cost of every trial on a device that is `speed` times as fast as one thread of a server's CPU.

    A forward pass takes its operations, the values it writes and its calls, each at a fixed rate, for every sample or
    batch of every epoch; a training step takes three times as long. Of frozen stages there is no backward pass, and
    only one forward pass of the parts of which every epoch shows the same images; they are taken to have their share
    of the work. Augmentation, loading and metrics count nothing. A member without epochs is charged by its voxels.
    """
    from corpus_builder.backbones.work import forward_work

    sizes = {card.name: study.size(card) for card in study.cards}
    counts = {card.name: role_counts(card, study) for card in study.cards}

    @cache
    def forward(backbone: str, size: tuple[int, ...]) -> Work | None:
        spec = member_spec(backbone)
        return None if isinstance(spec, ClassicalSpec) else forward_work(spec, size)[1]

    def cost(spec: TrialSpec) -> float:
        size, count = sizes[spec.dataset], counts[spec.dataset]
        work = forward(str(spec.config["backbone"]), size)
        if work is None:
            total = _VOXEL_SECONDS * float(np.prod(size)) * sum(count.values())
        else:
            total = _network_seconds(work, count, spec)
        return _limited(total / speed, spec)

    return cost


def _network_seconds(work: Work, count: Mapping[str, int], spec: TrialSpec) -> float:
    from corpus_builder.train.evaluate import BATCH

    sample = work.flops / _FLOPS_PER_SECOND + work.values / _VALUES_PER_SECOND
    batch = work.calls * _CALL_SECONDS
    batch_size = min(int(spec.config["batch_size"]), count["train"])
    steps = count["train"] // batch_size
    batches = sum(-(-count[role] // BATCH) for role in ("val", "test"))
    train = steps * (batch_size * sample + batch)
    evaluation = (count["val"] + count["test"]) * sample + batches * batch

    repeated = repeated_parts(spec.config)
    trunk = train * (1 if repeated == "all" else spec.epochs) + evaluation * (spec.epochs if repeated == "none" else 1)
    tail = spec.epochs * (_STEP * train + evaluation)
    other = spec.epochs * (_STEP * steps + batches) * _OTHER_CALLS * _CALL_SECONDS
    frozen = float(spec.config.get("freeze", 0.0))
    return frozen * trunk + (1.0 - frozen) * tail + other


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
