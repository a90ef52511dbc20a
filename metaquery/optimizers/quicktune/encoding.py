"""Configs, learning curves and meta-features as the numbers that the predictors of Quick-Tune read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaquery.space import Config, Value

BACKBONE = "backbone"
_FEW = 16  # a number with more values than this is a continuous one
_WIDE = 100.0  # the highest over the lowest value from which on a continuous axis is a logarithmic one
_MOST_DEVIATIONS = 5.0  # a meta-feature far from all training datasets says no more than that it is far

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LossScale:
    """Losses as scores for the curve prefix, and standardised as targets.

    `useless` is the loss of a model that has learned next to nothing: its score is 0, like the padding of a prefix,
    and a perfect model's is 1. Losses beyond twice that count as twice that.
    """

    useless: float
    mean: float
    deviation: float

    @classmethod
    def of(cls, losses: Array, useless: float) -> LossScale:
        """The scale that standardises the finite ones of `losses`, any shape."""
        finite = np.minimum(losses[np.isfinite(losses)], 2.0 * useless)
        deviation = float(finite.std()) if len(finite) > 1 else 0.0
        return cls(useless, float(finite.mean()), max(deviation, 1e-3 * useless))

    def scores(self, losses: Array) -> Array:
        """1 for a loss of 0, 0 for a useless model, and at least -1; same shape, NaN kept."""
        scores: Array = 1.0 - np.minimum(losses, 2.0 * self.useless) / self.useless
        return scores

    def standardise(self, losses: Array) -> Array:
        """Targets of the Gaussian process; same shape, NaN kept."""
        targets: Array = (np.minimum(losses, 2.0 * self.useless) - self.mean) / self.deviation
        return targets


@dataclass(frozen=True)
class MetafeatureScale:
    """Meta-features standardised over the training datasets, after a signed logarithm that tames counts."""

    names: tuple[str, ...] = ()
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()

    @classmethod
    def of(cls, datasets: Iterable[Mapping[str, float]]) -> MetafeatureScale:
        """The scale over `datasets`, of all meta-features that at least one of them has a finite value for."""
        found: dict[str, list[float]] = {}
        for values in datasets:
            for name, value in values.items():
                if np.isfinite(value):
                    found.setdefault(name, []).append(_signed_log(value))
        names = tuple(sorted(found))
        means = tuple(float(np.mean(found[name])) for name in names)
        spreads = (float(np.std(found[name])) for name in names)
        return cls(names, means, tuple(spread if spread > 1e-9 else 1.0 for spread in spreads))

    def __call__(self, values: Mapping[str, float]) -> Array:
        """The standardised values, shape (n_names,); 0, the mean of the training datasets, for a missing one."""
        known = np.array([_signed_log(values.get(name, np.nan)) for name in self.names])
        scaled: Array = (known - np.array(self.means)) / np.array(self.deviations)
        return np.clip(np.nan_to_num(scaled, nan=0.0), -_MOST_DEVIATIONS, _MOST_DEVIATIONS)


@dataclass(frozen=True)
class Axis:
    """One hyperparameter as columns in [0, 1], learned from configs.

    A category has a column per choice. A number has one: its place among the `choices` that were seen where these
    are few, as on a grid, else its place between the lowest and the highest, on a logarithmic axis where `log`. A
    hyperparameter that some configs lack, a conditional one, is 0 in all columns there, and a number then has a
    column more that says that it is present.
    """

    name: str
    choices: tuple[Value, ...]
    categorical: bool
    log: bool
    conditional: bool

    @classmethod
    def of(cls, name: str, configs: Sequence[Config]) -> Axis:
        """The axis of `name`, which at least one of `configs` has."""
        values = {config[name] for config in configs if name in config}
        conditional = any(name not in config for config in configs)
        if any(isinstance(value, str) for value in values):
            choices = sorted(values, key=lambda value: (isinstance(value, str), value))
            return cls(name, tuple(choices), True, False, conditional)
        numbers = sorted(float(value) for value in values)
        if len(numbers) <= _FEW:
            return cls(name, tuple(numbers), False, False, conditional)
        return cls(name, (numbers[0], numbers[-1]), False, 0.0 < numbers[0] * _WIDE <= numbers[-1], conditional)

    @property
    def width(self) -> int:
        """Number of columns; 0 where it says nothing."""
        if self.categorical:
            return len(self.choices) if self.conditional or len(self.choices) > 1 else 0
        return int(self.conditional) + int(len(self.choices) > 1)

    def columns(self, configs: Sequence[Config]) -> Array:
        """Shape (n, width). A category that was never seen is 0 in all columns, like an absent one."""
        values = [config.get(self.name) for config in configs]
        if self.categorical:
            hot = [[float(choice == value) for choice in self.choices] for value in values]
            return np.array(hot).reshape(len(configs), -1)[:, : self.width]
        numbers = np.array([np.nan if value is None or isinstance(value, str) else value for value in values])
        present = np.isfinite(numbers)
        points = np.array(self.choices)
        if self.log:
            points, numbers = np.log(points), np.log(np.maximum(numbers, points[0]))
        units = np.interp(numbers, points, np.linspace(0.0, 1.0, len(points)))
        columns = [present.astype(np.float64)] if self.conditional else []
        columns += [np.where(present, units, 0.0)] if len(points) > 1 else []
        return np.stack(columns, axis=1) if columns else np.empty((len(configs), 0))


@dataclass(frozen=True)
class Encoder:
    """What one predictor reads, and how: fixed before it is fitted, and kept with its weights.

    The backbone becomes a one-hot vector of its own, all zeros for one that was never seen.
    """

    axes: tuple[Axis, ...]
    epochs: int
    losses: LossScale
    metafeatures: MetafeatureScale = field(default_factory=MetafeatureScale)

    @staticmethod
    def axes_of(configs: Sequence[Config]) -> tuple[Axis, ...]:
        """The axes of all hyperparameters of `configs`, whatever the order of these."""
        names = sorted({name for config in configs for name in config})
        return tuple(Axis.of(name, configs) for name in names)

    @property
    def n_backbones(self) -> int:
        """Width of the backbone's columns; at least 1."""
        return max(1, sum(axis.width for axis in self.axes if axis.name == BACKBONE))

    @property
    def n_others(self) -> int:
        """Width of the other hyperparameters' columns; at least 1."""
        return max(1, sum(axis.width for axis in self.axes if axis.name != BACKBONE))

    def configs(self, configs: Sequence[Config]) -> tuple[Array, Array]:
        """Shapes (n, n_backbones) and (n, n_others)."""
        backbones = [axis for axis in self.axes if axis.name == BACKBONE]
        others = [axis for axis in self.axes if axis.name != BACKBONE]
        return _encode(backbones, configs), _encode(others, configs)

    def to_json(self) -> dict[str, Any]:
        """The JSON form; `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Encoder:
        """Read the JSON form; KeyError, TypeError or ValueError where it is another one."""
        axes = tuple(Axis(**{**axis, "choices": tuple(axis["choices"])}) for axis in document["axes"])
        metafeatures = MetafeatureScale(**{name: tuple(values) for name, values in document["metafeatures"].items()})
        return cls(axes, int(document["epochs"]), LossScale(**document["losses"]), metafeatures)


def _encode(axes: Sequence[Axis], configs: Sequence[Config]) -> Array:
    """Shape (n, columns), one column of zeros where there is none."""
    columns = np.concatenate([np.empty((len(configs), 0)), *(axis.columns(configs) for axis in axes)], axis=1)
    return columns if columns.shape[1] else np.zeros((len(configs), 1))


def _signed_log(value: float) -> float:
    return float(np.copysign(np.log1p(abs(value)), value))
