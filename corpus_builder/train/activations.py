"""What the frozen stages make of every sample, computed once: such trials train on it from the freezing point on."""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from corpus_builder.backbones.spec import BackboneSpec
from corpus_builder.recipe import Classifier, Draw, to_input, training_input
from corpus_builder.space import Repeated
from corpus_builder.train.device import Clock, mixed_precision
from corpus_builder.train.evaluate import BATCH, Resident
from corpus_builder.train.records import TrialData

MAX_BYTES = 2 * 2**30
SAMPLE = 128  # training samples by which DELTA weighs channels


class KeptSeconds(NamedTuple):
    """What keeping cost, or would have cost this trial alone: the outputs for the training part and for the others;
    and how much of it another trial has spent before."""

    train: float = 0.0
    evaluation: float = 0.0
    borrowed: float = 0.0


class Kept(NamedTuple):
    """Output of the frozen stages for one part, (n, ...), and the seconds that it took."""

    output: Tensor
    seconds: float


Key = tuple[str, int, torch.device, torch.dtype]  # backbone, number of frozen stages
_kept: WeakKeyDictionary[TrialData, tuple[Key, dict[int, Kept]]] = WeakKeyDictionary()  # by the part's place


def keep_activations(
    model: Classifier,
    spec: BackboneSpec,
    data: TrialData,
    parts: tuple[Resident, Resident, Resident],
    repeated: Repeated,
) -> KeptSeconds:
    """Give those `parts` that are `repeated` what the frozen stages of `model` make of them, if that is possible and at
    most 2 GiB in all.

    Trials on the same data with the same frozen stages share the outputs: frozen weights are those of the file.
    """
    backbone = model.backbone
    apart = backbone.n_frozen > 0 and (backbone.cuttable or backbone.n_frozen == len(backbone.stages))
    if not apart or repeated == "none":
        return KeptSeconds()
    device = parts[0].images.device
    key = (spec.name, backbone.n_frozen, device, torch.get_default_dtype())
    known, shared = _kept.get(data, (None, {}))
    if known != key:  # the outputs of one freezing point at a time
        shared = {}
    wanted = range(len(parts)) if repeated == "all" else range(1, len(parts))
    new = [place for place in wanted if place not in shared]
    if new:
        first = _outputs(model, spec, parts[1], limit=1)  # warms up, and tells the size
        per_sample = first[0].numel() * first.element_size()
        if per_sample * sum(len(parts[place]) for place in wanted) > MAX_BYTES:
            return KeptSeconds()
        _kept[data] = key, shared
    for place in new:
        clock = Clock(device)
        shared[place] = Kept(_outputs(model, spec, parts[place]), clock.elapsed())
    for place in wanted:
        parts[place].kept = shared[place].output
    seconds = {place: shared[place].seconds for place in wanted}
    borrowed = sum(spent for place, spent in seconds.items() if place not in new)
    return KeptSeconds(seconds.get(0, 0.0), seconds[1] + seconds[2], borrowed)


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
