"""One trial on one page: plain PyTorch, deterministic, the reference for everything faster."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from corpus_builder.backbones import backbone_spec
from corpus_builder.recipe import (
    AveragedModel,
    Classifier,
    Draw,
    Legal,
    Objective,
    Schedule,
    Stream,
    build_classifier,
    build_optimizer,
    random_layers,
    set_rate,
)
from corpus_builder.space import Repeated, repeated_parts
from corpus_builder.train.activations import SAMPLE, keep_activations, trunk_output
from corpus_builder.train.checkpoint import Checkpoint, Moving
from corpus_builder.train.device import Clock, deterministic, device_name, forked_rng, is_out_of_memory, mixed_precision
from corpus_builder.train.evaluate import Resident, evaluate, predict
from corpus_builder.train.flops import epoch_flops
from corpus_builder.train.records import TrialData, TrialResult, TrialSpec, error_line
from metaquery.types import Split, Status


def run_trial(
    spec: TrialSpec,
    data: TrialData,
    device: torch.device,
    weights_root: Path | None,
    *,
    repeated: Repeated | None = None,
) -> TrialResult:
    """Train and evaluate `spec` on `data`; whatever happens becomes the result's status, never an exception.

    What frozen stages make of the images is computed once for the parts of which every epoch shows them the same, or
    for `repeated`, which may be fewer of them.
    """
    return advance_trial(spec, data, device, weights_root, spec.epochs, repeated=repeated).result


def advance_trial(
    spec: TrialSpec,
    data: TrialData,
    device: torch.device,
    weights_root: Path | None,
    until: int,
    start: Checkpoint | None = None,
    *,
    repeated: Repeated | None = None,
    keep_last: bool = False,
) -> Checkpoint:
    """Like `run_trial`, but only to the end of epoch `until`, and from where `start` stopped.

    Every number but the seconds is that of a trial that never stopped, and all rows since the first epoch are there.
    Without an error the status is `completed`, and where epochs are left, or with `keep_last`, there is a state: to go
    on from, and the model's tensors.
    """
    new = TrialResult(device=device_name(device), precision="bfloat16" if device.type == "cuda" else "float32")
    result = new if start is None else copy.copy(start.result)
    result.epochs, result.predictions = [*result.epochs], {**result.predictions}
    state = None
    clock = Clock(device)
    try:
        with torch.device("meta"):
            size = data.train.images.shape[2:]
            backbone_spec(str(spec.config["backbone"])).build_for(size)  # its imports are nobody's cost
        result.train_flops, result.eval_flops = epoch_flops(spec.config, data)
        clock = Clock(device)
        with deterministic(spec.seed, device):
            before = None if start is None else start.state
            parts = repeated or repeated_parts(spec.config)
            keep = keep_last or until < spec.epochs
            result.status, state = _train(spec, data, device, weights_root, clock, result, until, before, parts, keep)
    except Exception as error:
        result.status = Status.OUT_OF_MEMORY if is_out_of_memory(error) else Status.FAILED
        result.error = error_line(error)
    result.total_seconds += clock.elapsed()
    result.peak_memory_bytes = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return Checkpoint(result, state)


def _train(  # noqa: PLR0915 - on one page
    spec: TrialSpec,
    data: TrialData,
    device: torch.device,
    weights_root: Path | None,
    clock: Clock,
    result: TrialResult,
    until: int,
    state: dict[str, Any] | None,
    repeated: Repeated,
    keep: bool,
) -> tuple[Status, dict[str, Any] | None]:
    config, backbone = spec.config, backbone_spec(str(spec.config["backbone"]))
    train, val, test = parts = Resident(data.train, device), Resident(data.val, device), Resident(data.test, device)
    size = train.images.shape[2:]
    model = build_classifier(backbone, config, data.n_classes, weights_root, size)
    model.to(device, torch.get_default_dtype())
    layers, buffers = random_layers(model), dict(model.named_buffers())
    optimizer = build_optimizer(model, config)
    averaged = AveragedModel(model, float(config["ema"]))
    kept = keep_activations(model, backbone, data, parts, repeated)
    result.total_seconds += kept.borrowed if state is None else 0.0
    first = torch.arange(min(SAMPLE, len(train)), device=device)
    objective = Objective(config, model, train.labels, trunk_output(model, train, first, None, backbone))
    batch_size = min(int(config["batch_size"]), len(train))
    steps = len(train) // batch_size  # an incomplete last batch is left out: its samples come in other epochs
    schedule = Schedule(config, steps, spec.epochs)
    probing, max_norm = int(config.get("linear_probing_epochs", 0)), float(config["gradient_clipping"])
    limit = spec.time_limit_seconds

    def stream() -> Stream:
        legal = Legal(data.legal_flips, data.bias_field)
        return Stream(config, spec.seed, train.labels.cpu(), size, legal, layers)

    def loss_of(net: Classifier, indices: torch.Tensor, draw: Draw) -> torch.Tensor:
        x = trunk_output(net, train, indices, draw, backbone)
        with mixed_precision(device):
            return objective(net, x, net.tail(x), train.labels[indices], draw.mix)

    # Warm up on a copy, so that first-call costs are nobody's epoch.
    with forked_rng(device):
        rehearsal = copy.deepcopy(model).train()
        loss_of(rehearsal, torch.arange(batch_size, device=device), stream().step(batch_size)).backward()
        predict(rehearsal, val, backbone, limit=1)

    draws = stream()
    moving = Moving(model, optimizer, averaged, schedule, draws, device)
    if state is not None:
        moving.load(state)
    for epoch in range(len(result.epochs) + 1, until + 1):
        started = clock.now()
        model.train()
        model.backbone.rest(epoch <= probing)
        order = draws.epoch().to(device)
        total = torch.zeros((), device=device)
        for step in range(steps):
            rate = schedule.rate((epoch - 1) * steps + step)
            set_rate(optimizer, rate)
            draw = draws.step(batch_size)
            for name, values in draw.layers.items():
                buffers[name].data = values.to(device)
            loss = loss_of(model, order[step * batch_size : (step + 1) * batch_size], draw)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if max_norm:
                torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            optimizer.step()
            averaged.update()
            total += loss.detach()
        train_loss = total.item() / steps
        trained = clock.now()
        if not math.isfinite(train_loss):
            result.error = f"the training loss became {train_loss} in epoch {epoch}"
            return Status.DIVERGED, None

        probabilities: dict[Split, NDArray[np.float32]] = {
            "val": predict(averaged.evaluated, val, backbone),
            "test": predict(averaged.evaluated, test, backbone),
        }
        if any(np.isnan(p).any() for p in probabilities.values()):
            result.error = f"the predictions became NaN in epoch {epoch}"
            return Status.DIVERGED, None
        metrics = evaluate(val.truth, probabilities["val"], "val") | evaluate(test.truth, probabilities["test"], "test")
        schedule.end_epoch(metrics["val_loss"])
        evaluated = clock.now()

        seconds = {"train_seconds": trained - started, "eval_seconds": evaluated - trained}
        if epoch == 1:  # what was computed before it is a cost of the first epoch
            seconds["train_seconds"] += kept.train
            seconds["eval_seconds"] += kept.evaluation
        row = {"epoch": epoch, "learning_rate": rate, "train_loss": train_loss, **metrics, **seconds}
        result.add_epoch(row, probabilities)
        if limit is not None and epoch < spec.epochs and result.total_seconds + clock.elapsed() > limit:
            result.error = f"over the time limit of {limit:g} s after epoch {epoch}"
            return Status.TIMED_OUT, None
    return Status.COMPLETED, moving.state() if keep else None
