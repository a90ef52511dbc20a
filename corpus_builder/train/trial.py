"""One trial on one page: plain PyTorch, deterministic, the reference for everything faster."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from corpus_builder.backbones import backbone_spec
from corpus_builder.recipe import augment, build_classifier, build_optimizer, learning_rate_at, to_input
from corpus_builder.train.device import Clock, deterministic, device_name, forked_rng, is_out_of_memory
from corpus_builder.train.evaluate import Resident, evaluate, predict
from corpus_builder.train.records import TrialData, TrialResult, TrialSpec, error_line
from metaquery.schema.predictions import CHECKPOINTS
from metaquery.types import Split, Status


def run_trial(spec: TrialSpec, data: TrialData, device: torch.device, weights_root: Path | None) -> TrialResult:
    """Train and evaluate `spec` on `data`; whatever happens becomes the result's status, never an exception."""
    result = TrialResult(device=device_name(device), precision="bfloat16" if device.type == "cuda" else "float32")
    clock = Clock(device)
    try:
        with torch.device("meta"):
            backbone_spec(str(spec.config["backbone"])).build_for(
                data.train.images.shape[2:]
            )  # its imports are nobody's cost
        clock = Clock(device)
        with deterministic(spec.seed, device):
            result.status = _train(spec, data, device, weights_root, clock, result)
    except Exception as error:
        result.status = Status.OUT_OF_MEMORY if is_out_of_memory(error) else Status.FAILED
        result.error = error_line(error)
    result.total_seconds = clock.elapsed()
    result.peak_memory_bytes = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return result


def _train(
    spec: TrialSpec, data: TrialData, device: torch.device, weights_root: Path | None, clock: Clock, result: TrialResult
) -> Status:
    config, backbone = spec.config, backbone_spec(str(spec.config["backbone"]))
    train, val, test = (Resident(part, device) for part in (data.train, data.val, data.test))
    model = build_classifier(backbone, config, data.n_classes, weights_root, data.train.images.shape[2:]).to(device)
    optimizer = build_optimizer(model, config)
    batch_size = min(int(config["batch_size"]), len(train))
    steps = len(train) // batch_size  # an incomplete last batch is left out: its samples come in other epochs
    shuffling = torch.Generator().manual_seed(spec.seed)  # data order and augmentation have streams of their own,
    augmentation = torch.Generator().manual_seed(spec.seed + 1)  # so that neither depends on the network's draws
    smoothing, kind = float(config["label_smoothing"]), str(config["augmentation"])

    def loss_of(net: torch.nn.Module, indices: torch.Tensor) -> torch.Tensor:
        x = to_input(augment(train.images[indices], kind, augmentation), backbone)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            logits = net(x)
        return F.cross_entropy(logits.float(), train.labels[indices], label_smoothing=smoothing)

    # Warm up on a copy, so that first-call costs are nobody's epoch; every stream it draws from is put back.
    state = augmentation.get_state()
    with forked_rng(device):
        rehearsal = copy.deepcopy(model).train()
        loss_of(rehearsal, torch.arange(batch_size, device=device)).backward()
        predict(rehearsal, val, backbone, limit=1)
    augmentation.set_state(state)

    best_auc = -math.inf
    for epoch in range(1, spec.epochs + 1):
        started = clock.now()
        model.train()
        order = torch.randperm(len(train), generator=shuffling).to(device)
        total = torch.zeros((), device=device)
        for step in range(steps):
            rate = learning_rate_at(config, (epoch - 1) * steps + step, steps, spec.epochs)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = loss_of(model, order[step * batch_size : (step + 1) * batch_size])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        train_loss = total.item() / steps
        trained = clock.now()
        if not math.isfinite(train_loss):
            result.error = f"the training loss became {train_loss} in epoch {epoch}"
            return Status.DIVERGED

        probabilities: dict[Split, NDArray[np.float32]] = {
            "val": predict(model, val, backbone),
            "test": predict(model, test, backbone),
        }
        if any(np.isnan(p).any() for p in probabilities.values()):
            result.error = f"the predictions became NaN in epoch {epoch}"
            return Status.DIVERGED
        metrics = evaluate(val.truth, probabilities["val"], "val") | evaluate(test.truth, probabilities["test"], "test")
        evaluated = clock.now()

        seconds = {"train_seconds": trained - started, "eval_seconds": evaluated - trained}
        result.epochs.append({"epoch": epoch, "learning_rate": rate, "train_loss": train_loss, **metrics, **seconds})
        if epoch in CHECKPOINTS:
            result.predictions[epoch] = probabilities
        # in single precision, as curves store it, so that both name the same epoch the best
        auc = -math.inf if metrics["val_auc"] is None else float(np.float32(metrics["val_auc"]))
        if epoch == 1 or auc > best_auc:
            result.predictions["best"], best_auc = probabilities, auc
        result.predictions["last"] = probabilities
        if spec.time_limit_seconds is not None and epoch < spec.epochs and clock.elapsed() > spec.time_limit_seconds:
            result.error = f"over the time limit of {spec.time_limit_seconds:g} s after epoch {epoch}"
            return Status.TIMED_OUT
    return Status.COMPLETED
