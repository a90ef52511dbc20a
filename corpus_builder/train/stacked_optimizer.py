"""The update rules of the recipe for stacked models, each with its own hyperparameters.

What `torch.optim.SGD`, `Adam` and `AdamW` do, with a tensor (models,) in place of every number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from corpus_builder.recipe.averaging import average_decay
from corpus_builder.recipe.optimization import betas, is_decayed
from metaquery.space import Config

_EPSILON = 1e-8  # that of torch.optim.Adam


class StackedOptimizer:
    """Updates stacked weights (models, ...) in place."""

    def __init__(
        self, configs: Sequence[Config], weights: Mapping[str, Tensor], factors: Mapping[str, Sequence[float]]
    ) -> None:
        """`factors` are, for each weight, the models' shares of the learning rate."""
        like = next(iter(weights.values()))

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=like.dtype, device=like.device)

        adaptive = [config["optimizer"] in ("adam", "adamw") for config in configs]
        pairs = [betas(config) if on else (0.0, 0.0) for config, on in zip(configs, adaptive, strict=True)]
        decays = [float(config["weight_decay"]) for config in configs]
        decoupled = [config["optimizer"] == "adamw" for config in configs]
        pulled_back = [float(config.get("l2_sp", 0.0)) > 0 for config in configs]
        self._columns = {
            "adaptive": column(adaptive),
            "beta1": column([pair[0] for pair in pairs]),
            "beta2": column([pair[1] for pair in pairs]),
            "momentum": column([float(config.get("momentum", 0.0)) for config in configs]),
            "penalty": column([0.0 if d else v for d, v in zip(decoupled, decays, strict=True)]),
            "decay": column([v if d else 0.0 for d, v in zip(decoupled, decays, strict=True)]),
            "backbone_decay": column([0.0 if p else 1.0 for p in pulled_back]),
            "max_norm": column([float(config["gradient_clipping"]) or torch.inf for config in configs]),
        }
        self._factors = {name: column(values) for name, values in factors.items()}
        self._any = {
            "adaptive": any(adaptive),
            "momentum": not all(adaptive),
            "clips": bool((self._columns["max_norm"] < torch.inf).any()),
        }
        self._first = {name: torch.zeros_like(value) for name, value in weights.items()}
        self._second = {name: torch.zeros_like(value) for name, value in weights.items()} if any(adaptive) else {}
        self._steps = {name: torch.zeros_like(self._columns["decay"]) for name in weights}

    @torch.no_grad()
    def step(
        self,
        weights: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        rates: Tensor,
        active: Mapping[str, Tensor],
        rows: slice,
    ) -> None:
        """Update the models `rows` in place, from their `gradients`, with the learning `rates` (rows,).

        `active` says for each weight which of all models train it now, (models,) of bool: the others are left alone,
        state included.
        """
        column = {name: value[rows] for name, value in self._columns.items()}
        gradients = {name: _each(active[name][rows], g) * g for name, g in gradients.items()}
        if self._any["clips"]:
            squares = [g.flatten(1).square().sum(1) for g in gradients.values()]
            norm = torch.stack(squares).sum(0).sqrt()
            shrink = (column["max_norm"] / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_
            gradients = {name: g * _each(shrink, g) for name, g in gradients.items()}
        for name, gradient in gradients.items():
            weight, on = weights[name][rows], active[name][rows]
            rate = rates * self._factors[name][rows]
            scale = (column["backbone_decay"] if name.startswith("backbone.") else 1.0) * is_decayed(weight[0])
            pulled = gradient + _each(column["penalty"] * scale, weight) * weight
            shrunk = weight * _each(1 - rate * column["decay"] * scale, weight)
            step = self._steps[name][rows]
            step += on
            change = self._change(name, pulled, step, on, column, rows)
            weight.copy_(torch.where(_each(on, weight), shrunk - _each(rate, weight) * change, weight))

    def _change(
        self, name: str, gradient: Tensor, step: Tensor, on: Tensor, column: Mapping[str, Tensor], rows: slice
    ) -> Tensor:
        """What the learning rate is multiplied with, (rows, ...); the moments are updated where `on`."""
        wide, adaptive = _each(on, gradient), _each(column["adaptive"], gradient) > 0
        first = self._first[name][rows]
        beta1, momentum = _each(column["beta1"], gradient), _each(column["momentum"], gradient)
        plain = momentum * first + gradient
        moment = torch.where(adaptive, first.lerp(gradient, 1 - beta1), plain) if self._any["adaptive"] else plain
        first.copy_(torch.where(wide, moment, first))
        change = gradient + momentum * moment
        if self._any["adaptive"]:
            second, beta2 = self._second[name][rows], _each(column["beta2"], gradient)
            second.copy_(torch.where(wide, beta2 * second + (1 - beta2) * gradient.square(), second))
            counted = step.clamp_min(1)
            correction1 = _each(1 - column["beta1"] ** counted, gradient)
            correction2 = _each((1 - column["beta2"] ** counted).sqrt(), gradient)
            adam = moment / correction1 / (second.sqrt() / correction2 + _EPSILON)
            change = torch.where(adaptive, adam, change)
        return change

    def keep(self, rows: Tensor) -> None:
        """Keep the models `rows` alone, in this order."""
        for state in (self._columns, self._factors, self._first, self._second, self._steps):
            for name, value in state.items():
                state[name] = value[rows]


class StackedAverage:
    """Exponential moving averages of stacked models, as `recipe.AveragedModel`; models without one are themselves."""

    def __init__(self, decays: Sequence[float], state: Mapping[str, Tensor]) -> None:
        self._decays = list(decays)
        self._steps = 0
        self._average = {name: value.clone() for name, value in state.items()} if any(decays) else {}

    @torch.no_grad()
    def update(self, state: Mapping[str, Tensor]) -> None:
        """Take in weights and buffers (models, ...) after a step of all models."""
        if not self._average:
            return
        self._steps += 1
        decays = [average_decay(decay, self._steps) if decay else 0.0 for decay in self._decays]
        for name, average in self._average.items():
            if average.is_floating_point():
                keep = torch.tensor(decays, dtype=average.dtype, device=average.device)
                average.lerp_(state[name], _each(1 - keep, average))
            else:
                average.copy_(state[name])

    def evaluated(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What to predict with in place of `state`, by name."""
        return {name: self._average.get(name, value) for name, value in state.items()}

    def keep(self, rows: Tensor) -> None:
        """Keep the models `rows` alone, in this order."""
        self._decays = [self._decays[row] for row in rows.tolist()]
        self._average = {name: value[rows] for name, value in self._average.items()}


def _each(column: Tensor, like: Tensor) -> Tensor:
    """`column` (models,) with as many axes as `like` (models, ...)."""
    return column.view(-1, *[1] * (like.ndim - 1))
