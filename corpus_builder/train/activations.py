"""What the frozen stages make of every sample, computed once: such trials train on it from the freezing point on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from corpus_builder.backbones.spec import BackboneSpec
from corpus_builder.recipe import Classifier, Draw, to_input, training_input
from corpus_builder.space import same_images
from corpus_builder.train.device import Clock, mixed_precision
from corpus_builder.train.evaluate import BATCH, Resident
from corpus_builder.train.records import TrialData
from metaquery.space import Config

MAX_BYTES = 2 * 2**30
SAMPLE = 128  # training samples by which DELTA weighs channels


class KeptSeconds(NamedTuple):
    """What keeping cost, or would have cost this trial alone: the outputs for the training part and for the others;
    and how much of it another trial has spent before."""

    train: float = 0.0
    evaluation: float = 0.0
    borrowed: float = 0.0


@dataclass(frozen=True, slots=True)
class Kept:
    """Outputs of the frozen stages for the three parts, (n, ...) each, and the seconds that they took: those of the
    training part, and those of the others."""

    outputs: tuple[Tensor, Tensor, Tensor]
    train_seconds: float
    eval_seconds: float


_kept: WeakKeyDictionary[TrialData, dict[tuple[str, int, torch.device, torch.dtype], Kept]] = WeakKeyDictionary()


def keep_activations(
    model: Classifier, spec: BackboneSpec, config: Config, data: TrialData, parts: tuple[Resident, Resident, Resident]
) -> KeptSeconds:
    """Give each of `parts` what the frozen stages of `model` make of it, if that is possible and at most 2 GiB in all.

    Trials on the same data with the same frozen stages share the outputs: frozen weights are those of the file.
    """
    backbone = model.backbone
    apart = backbone.n_frozen > 0 and (backbone.cuttable or backbone.n_frozen == len(backbone.stages))
    if not (apart and same_images(config)):
        return KeptSeconds()
    device = parts[0].images.device
    shared = _kept.setdefault(data, {})
    key = (spec.name, model.backbone.n_frozen, device, torch.get_default_dtype())
    known = key in shared
    if not known:
        first = _outputs(model, spec, parts[1], limit=1)  # warms up, and tells the size
        per_sample = first[0].numel() * first.element_size()
        if per_sample * sum(map(len, parts)) > MAX_BYTES:
            return KeptSeconds()
        shared.clear()  # the outputs of one freezing point at a time
        clock = Clock(device)
        train = _outputs(model, spec, parts[0])
        train_seconds = clock.elapsed()
        val, test = (_outputs(model, spec, part) for part in parts[1:])
        shared[key] = Kept((train, val, test), train_seconds, clock.elapsed() - train_seconds)
    for part, output in zip(parts, shared[key].outputs, strict=True):
        part.kept = output
    train_seconds, eval_seconds = shared[key].train_seconds, shared[key].eval_seconds
    return KeptSeconds(train_seconds, eval_seconds, train_seconds + eval_seconds if known else 0.0)


def trunk_output(model: Classifier, part: Resident, indices: Tensor, draw: Draw | None, spec: BackboneSpec) -> Tensor:
    """What the frozen stages of `model` make of the samples `indices` (n,) of `part`, changed as `draw` says: kept or
    computed. Without frozen stages it is the network input."""
    if part.kept is not None:
        return part.kept[indices]
    x = training_input(part.images[indices], draw, spec)
    with mixed_precision(x.device):
        return model.backbone.trunk(x)


@torch.no_grad()
def _outputs(model: Classifier, spec: BackboneSpec, part: Resident, limit: int | None = None) -> Tensor:
    model.eval()
    outputs = []
    for batch in part.images.split(BATCH)[:limit]:
        with mixed_precision(part.images.device):
            outputs.append(model.backbone.trunk(to_input(batch.to(torch.get_default_dtype()), spec)))
    return torch.cat(outputs)
