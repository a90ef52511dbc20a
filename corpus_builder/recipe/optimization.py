"""Optimizer and learning-rate schedule of a config."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from corpus_builder.recipe.model import Classifier
from metaquery.space import Config


def is_decayed(parameter: Tensor) -> bool:
    """Whether weight decay applies: to matrices and kernels, not to biases and norm layers."""
    return parameter.ndim > 1


def rate_factors(model: Classifier, config: Config) -> dict[str, float]:
    """By which factor of the learning rate each parameter, by name, is trained.

    With `layer_decay` d, the stage k places before the head has d to the power of k (Clark et al., ICLR 2020; Bao et
    al., ICLR 2022); the head has 1.
    """
    decay = float(config.get("layer_decay", 1.0))
    stages = model.backbone.stage_parameters()
    factors = {name: 1.0 for name, _ in model.named_parameters()}
    for number, names in enumerate(stages.values()):
        factors |= {f"backbone.{name}": decay ** (len(stages) - number) for name in names}
    return factors


def build_optimizer(model: Classifier, config: Config) -> torch.optim.Optimizer:
    """The config's update rule over the trainable parameters.

    Each group carries `factor`, its share of the learning rate. Where `l2_sp` is on, the backbone is not decayed
    towards zero: L2-SP takes the place of weight decay there.
    """
    factors = rate_factors(model, config)
    pulled_back = float(config.get("l2_sp", 0.0)) > 0
    decay = float(config["weight_decay"])
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            spared = not is_decayed(parameter) or (pulled_back and name.startswith("backbone."))
            groups.setdefault((factors[name], 0.0 if spared else decay), []).append(parameter)
    options = [
        {"params": parameters, "weight_decay": weight_decay, "factor": factor}
        for (factor, weight_decay), parameters in groups.items()
    ]
    peak = float(config["lr"])
    match config["optimizer"]:
        case "adam":
            return torch.optim.Adam(options, lr=peak, betas=betas(config))
        case "adamw":
            return torch.optim.AdamW(options, lr=peak, betas=betas(config))
        case "momentum":
            return torch.optim.SGD(options, lr=peak, momentum=float(config["momentum"]), nesterov=True)
        case _:
            return torch.optim.SGD(options, lr=peak)


def betas(config: Config) -> tuple[float, float]:
    """The decay rates of Adam's two moments."""
    return float(config["beta1"]), float(config["beta2"])


class Schedule:
    """The learning rate over the steps of a trial.

    Linear warm-up from zero over `warmup_epochs`, then: `none` constant; `cosine` half a cosine to zero (Loshchilov and
    Hutter, ICLR 2017, without restarts); `step` times `decay_rate` every `decay_epochs` epochs; `plateau` times
    `decay_rate` whenever the validation loss has not improved for more than `patience` epochs.
    """

    def __init__(self, config: Config, steps_per_epoch: int, epochs: int) -> None:
        self._config = config
        self._peak = float(config["lr"])
        self._steps_per_epoch = steps_per_epoch
        self._total = epochs * steps_per_epoch
        self._warmup = int(config["warmup_epochs"]) * steps_per_epoch
        self._reduction = 1.0
        self._best = math.inf
        self._waited = 0

    def rate(self, step: int) -> float:
        """Learning rate of `step`, counted from 0 over the whole trial."""
        if step < self._warmup:
            return self._peak * (step + 1) / self._warmup
        match self._config["schedule"]:
            case "cosine":
                progress = (step - self._warmup) / max(1, self._total - self._warmup)
                return self._peak * 0.5 * (1 + math.cos(math.pi * progress))
            case "step":
                epochs = (step - self._warmup) // self._steps_per_epoch
                times = epochs // int(self._config["decay_epochs"])
                return self._peak * float(self._config["decay_rate"]) ** times
            case _:
                return self._peak * self._reduction

    def end_epoch(self, val_loss: float | None) -> None:
        """Take note of the validation loss, None where it is not defined; only `plateau` cares."""
        if self._config["schedule"] != "plateau":
            return
        if val_loss is not None and val_loss < self._best:
            self._best, self._waited = val_loss, 0
            return
        self._waited += 1
        if self._waited > int(self._config["patience"]):
            self._reduction *= float(self._config["decay_rate"])
            self._waited = 0

    def state(self) -> tuple[float, float, int]:
        """What `load` needs to go on from here."""
        return self._reduction, self._best, self._waited

    def load(self, state: tuple[float, float, int]) -> None:
        """Go on from `state`."""
        self._reduction, self._best, self._waited = state


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
