"""Many trials at once: those that share data, backbone, batch size and epochs are trained as one stacked model.

Every trial has the streams, the weights and the update rule that it would have alone, so it gets the curve that it
would get alone, up to rounding; only its cost cannot be seen and comes from a calibration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from corpus_builder.backbones import backbone_spec
from corpus_builder.recipe import Classifier, Draw, Legal, Schedule, Stream, build_classifier, random_layers, to_input
from corpus_builder.recipe.augmentation import Transform
from corpus_builder.recipe.mixing import mixed
from corpus_builder.recipe.optimization import rate_factors
from corpus_builder.recipe.transformation import apply
from corpus_builder.space import Repeated, repeated_parts
from corpus_builder.train.activations import SAMPLE, keep_activations, trunk_output
from corpus_builder.train.device import deterministic, device_name, is_out_of_memory, mixed_precision
from corpus_builder.train.evaluate import BATCH, Resident, evaluate
from corpus_builder.train.flops import epoch_flops
from corpus_builder.train.records import EpochCost, TrialData, TrialResult, TrialSpec, error_line
from corpus_builder.train.stacked_model import StackedModel
from corpus_builder.train.stacked_objective import StackedObjective, Targets
from corpus_builder.train.stacked_optimizer import StackedAverage, StackedOptimizer
from metaquery.space import Config
from metaquery.types import Split, Status


def can_fuse(config: Config) -> bool:
    """Whether trials of the backbone of `config` can be trained together: its stages, or all that is trained of it, are
    plain modules one after the other."""
    stages_apart = backbone_spec(str(config["backbone"])).build_sized is None
    return stages_apart or float(config.get("freeze", 0.0)) == 1.0


def fusion_key(config: Config) -> tuple[object, ...]:
    """Trials of one dataset and fold with equal keys can be trained together."""
    return config["backbone"], config["batch_size"], config.get("freeze", 0.0), repeated_parts(config)


def run_fused(
    specs: Sequence[TrialSpec],
    data: TrialData,
    device: torch.device,
    weights_root: Path | None,
    cost: Callable[[Config, int], EpochCost],
    width: int | None = None,
    *,
    repeated: Repeated | None = None,
) -> list[TrialResult]:
    """Train `specs`, with equal fusion keys and epochs, together; at most `width` of them in one pass.

    `cost` tells what an epoch, counted from 1, of a config takes alone, without what is computed before the first one.
    A trial that diverges, or whose time is over, leaves; where memory is short, the width halves and the step is
    repeated. `repeated` as in `run_trial`.
    """
    results = [
        TrialResult(
            device=device_name(device),
            precision="bfloat16" if device.type == "cuda" else "float32",
            engine="fused",
            fused_width=len(specs),
            cost_source="calibrated",
        )
        for _ in specs
    ]
    try:
        FusedRun(specs, results, data, device, weights_root, cost, width or len(specs), repeated).train()
    except Exception as error:
        for result in results:
            if result.status is Status.FAILED and result.error is None:
                result.status = Status.OUT_OF_MEMORY if is_out_of_memory(error) else Status.FAILED
                result.error = error_line(error)
    for spec, result in zip(specs, results, strict=True):
        result.train_flops, result.eval_flops = epoch_flops(spec.config, data)
        result.total_seconds = sum(row["train_seconds"] + row["eval_seconds"] for row in result.epochs)
    return results


class FusedRun:
    """Trials on their way: `alive` are the indices of those that still train, in the order of the stacked tensors."""

    def __init__(
        self,
        specs: Sequence[TrialSpec],
        results: Sequence[TrialResult],
        data: TrialData,
        device: torch.device,
        weights_root: Path | None,
        cost: Callable[[Config, int], EpochCost],
        width: int,
        repeated: Repeated | None = None,
    ) -> None:
        self.specs, self.results, self.device, self.cost, self.width = specs, results, device, cost, width
        self.configs = [spec.config for spec in specs]
        self.spec = backbone_spec(str(self.configs[0]["backbone"]))
        self.parts = Resident(data.train, device), Resident(data.val, device), Resident(data.test, device)
        self.train_part = self.parts[0]
        self.alive = list(range(len(specs)))
        self.batch_size = min(int(self.configs[0]["batch_size"]), len(self.train_part))
        self.steps = len(self.train_part) // self.batch_size
        models = [self._build(spec, data, weights_root) for spec in specs]
        self.first = models[0]
        parts = repeated or repeated_parts(self.configs[0])
        self.kept = keep_activations(self.first, self.spec, data, self.parts, parts)
        self.rests = [int(config.get("linear_probing_epochs", 0)) for config in self.configs]
        gated = any(self.rests) or any(float(config.get("stochastic_norm", 0.0)) for config in self.configs)
        self.model = StackedModel(models, gated=gated)
        self.stages = list(self.first.backbone.stages)[self.first.backbone.n_frozen :]
        sample = torch.arange(min(SAMPLE, len(self.train_part)), device=device)
        seen = trunk_output(self.first, self.train_part, sample, None, self.spec)
        self.objective = StackedObjective(self.configs, self.model, self.first, self.train_part.labels, seen)
        factors = [rate_factors(model, config) for model, config in zip(models, self.configs, strict=True)]
        by_weight = {name: [one[name] for one in factors] for name in self.model.weights}
        self.optimizer = StackedOptimizer(self.configs, self.model.weights, by_weight)
        self.average = StackedAverage([float(c["ema"]) for c in self.configs], self.model.state())
        self.schedules = [Schedule(spec.config, self.steps, spec.epochs) for spec in specs]
        legal, labels = Legal(data.legal_flips, data.bias_field), self.train_part.labels.cpu()
        size = self.train_part.images.shape[2:]
        self.streams = [
            Stream(spec.config, spec.seed, labels, size, legal, random_layers(model))
            for spec, model in zip(specs, models, strict=True)
        ]

    def _build(self, spec: TrialSpec, data: TrialData, weights_root: Path | None) -> Classifier:
        with deterministic(spec.seed, self.device):
            size = self.train_part.images.shape[2:]
            model = build_classifier(self.spec, spec.config, data.n_classes, weights_root, size)
        return model.to(self.device, torch.get_default_dtype())

    def train(self) -> None:
        """All epochs of all trials."""
        for epoch in range(1, max(spec.epochs for spec in self.specs) + 1):
            losses, rates = self._train_epoch(epoch)
            self._end_epoch(epoch, losses, rates)
            if not self.alive:
                return
        for trial in self.alive:
            self.results[trial].status = Status.COMPLETED

    def _train_epoch(self, epoch: int) -> tuple[list[float], list[float]]:
        """One epoch of the trials that are left: their mean losses and last learning rates."""
        self.model.train()
        orders = torch.stack([self.streams[trial].epoch() for trial in self.alive]).to(self.device)
        rates = torch.tensor(
            [
                [self.schedules[trial].rate((epoch - 1) * self.steps + step) for trial in self.alive]
                for step in range(self.steps)
            ],
            dtype=torch.get_default_dtype(),
            device=self.device,
        )
        tuned = torch.tensor([epoch > self.rests[trial] for trial in self.alive], device=self.device)
        always = torch.ones_like(tuned)
        stages = dict.fromkeys(self.stages, tuned)
        weights = {name: tuned if name.startswith("backbone.") else always for name in self.model.weights}
        total = torch.zeros(len(self.alive), dtype=torch.get_default_dtype(), device=self.device)
        for step in range(self.steps):
            indices = orders[:, step * self.batch_size : (step + 1) * self.batch_size]
            draws = [self.streams[trial].step(self.batch_size) for trial in self.alive]
            buffers = self._buffers(draws, tuned)
            x = self._input(indices, draws)
            targets = Targets.of(self.train_part.labels[indices], draws)
            start = 0
            while start < len(self.alive):
                rows = slice(start, start + self.width)
                before = {name: value[rows].clone() for name, value in self.model.buffers.items()}
                try:
                    with mixed_precision(self.device):
                        losses, gradients = self.objective.gradients(x, targets, buffers, stages, rows)
                except RuntimeError as error:
                    if not is_out_of_memory(error) or self.width == 1:
                        raise
                    self.width = math.ceil(self.width / 2)
                    for name, value in before.items():
                        self.model.buffers[name][rows] = value
                    torch.cuda.empty_cache()
                    continue
                self.optimizer.step(self.model.weights, gradients, rates[step][rows], weights, rows)
                total[rows] += losses
                start = rows.stop
            self.average.update(self.model.state())
        last = [self.schedules[trial].rate(epoch * self.steps - 1) for trial in self.alive]
        return (total / self.steps).tolist(), last

    def _input(self, indices: Tensor, draws: Sequence[Draw]) -> Tensor:
        """What the frozen stages make of every trial's batch `indices` (trials, n): (trials, n, ...)."""
        if self.train_part.kept is not None:
            return self.train_part.kept[indices]
        images = self.train_part.images[indices.flatten()].to(torch.get_default_dtype())
        if any(draw.transform for draw in draws):
            neutral = Transform.neutral(indices.shape[1], images.ndim - 2)
            images = apply(images, Transform.cat([draw.transform or neutral for draw in draws]))
        x = to_input(images, self.spec).unflatten(0, tuple(indices.shape))
        if any(draw.mix for draw in draws):
            x = torch.stack([mixed(one, draw.mix) if draw.mix else one for one, draw in zip(x, draws, strict=True)])
        with torch.no_grad(), mixed_precision(self.device):
            flat = self.first.backbone.eval().trunk(x.flatten(0, 1))
        found: Tensor = flat.unflatten(0, tuple(indices.shape))
        return found

    def _buffers(self, draws: Sequence[Draw], tuned: Tensor) -> dict[str, Tensor]:
        """The stacked buffers, with those that the trials drew or that say which stages train."""
        found = dict(self.model.buffers)
        for name, value in self.model.buffers.items():
            kind = name.rpartition(".")[2]
            if kind == "active":
                found[name] = tuned.to(value.dtype)
            elif kind in ("mask", "choice"):
                shape = next((draw.layers[name].shape for draw in draws if name in draw.layers), value.shape[1:])
                neutral = torch.full(shape, 1.0 if kind == "mask" else 0.0, dtype=value.dtype)
                drawn = torch.stack([draw.layers.get(name, neutral).cpu() for draw in draws]).to(self.device)
                found[name] = drawn if kind == "mask" else torch.where(tuned[:, None], drawn, torch.ones_like(drawn))
        return found

    def _predict(self, part: Resident) -> NDArray[np.float32]:
        """Class probabilities (trials, n, n_classes) on `part`."""
        state = self.average.evaluated(self.model.state())
        weights = {name: state[name] for name in self.model.weights}
        buffers = {name: state[name] for name in self.model.buffers}
        probabilities = []
        with torch.no_grad():
            for batch in (part.images if part.kept is None else part.kept).split(BATCH):
                x = batch if part.kept is not None else to_input(batch.to(torch.get_default_dtype()), self.spec)
                with mixed_precision(self.device):
                    if part.kept is None:
                        x = self.first.backbone.eval().trunk(x)
                    logits = self.model.logits(weights, buffers, x)
                probabilities.append(logits.to(torch.get_default_dtype()).softmax(dim=2))
        return torch.cat(probabilities, dim=1).float().cpu().numpy()

    def _end_epoch(self, epoch: int, losses: Sequence[float], rates: Sequence[float]) -> None:
        """Record the epoch of every trial, and let those go that diverged or whose time is over."""
        self.model.eval()
        val, test = (self._predict(part) for part in self.parts[1:])
        staying = []
        for row, trial in enumerate(self.alive):
            result, spec = self.results[trial], self.specs[trial]
            predicted: dict[Split, NDArray[np.float32]] = {"val": val[row], "test": test[row]}
            if not math.isfinite(losses[row]):
                result.status = Status.DIVERGED
                result.error = f"the training loss became {losses[row]} in epoch {epoch}"
                continue
            if any(np.isnan(p).any() for p in predicted.values()):
                result.status = Status.DIVERGED
                result.error = f"the predictions became NaN in epoch {epoch}"
                continue
            metrics = evaluate(self.parts[1].truth, val[row], "val") | evaluate(self.parts[2].truth, test[row], "test")
            self.schedules[trial].end_epoch(metrics["val_loss"])
            seconds = self.cost(spec.config, epoch)._asdict()
            if epoch == 1:
                seconds["train_seconds"] += self.kept.train
                seconds["eval_seconds"] += self.kept.evaluation
            curve_row = {"epoch": epoch, "learning_rate": rates[row], "train_loss": losses[row], **metrics, **seconds}
            result.add_epoch(curve_row, predicted)
            used = sum(one["train_seconds"] + one["eval_seconds"] for one in result.epochs)
            limit = spec.time_limit_seconds
            if limit is not None and epoch < spec.epochs and used > limit:
                result.status = Status.TIMED_OUT
                result.error = f"over the time limit of {limit:g} s after epoch {epoch}"
                continue
            staying.append(row)
        if len(staying) < len(self.alive):
            rows = torch.tensor(staying, dtype=torch.int64, device=self.device)
            for part in (self.model, self.objective, self.optimizer, self.average):
                part.keep(rows)
            self.alive = [self.alive[row] for row in staying]
