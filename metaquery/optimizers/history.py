"""What an optimizer may learn from before its first ask: the trials of other datasets, by validation losses only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidInput, LeakageError
from metaquery.space import Config


@dataclass(frozen=True, eq=False)
class DatasetHistory:
    """The trials of one dataset.

    `losses` are validation losses to minimise and `seconds` what each epoch alone cost (training and evaluation), both
    of shape (len(configs), epochs), float64, NaN where a trial did not get so far. Where it stopped by its own rule,
    its last loss stands at later epochs, which cost nothing. `metafeatures` were measured on the dataset's training
    part. Never holds test information.
    """

    dataset: str
    family: str
    metafeatures: Mapping[str, float]
    configs: tuple[Config, ...]
    losses: NDArray[np.float64]
    seconds: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name, values in (("losses", self.losses), ("seconds", self.seconds)):
            if values.ndim != 2 or len(values) != len(self.configs) or values.shape != self.losses.shape:
                raise InvalidInput(
                    f"{name} of {self.dataset} must have the shape (configs, epochs) with {len(self.configs)} configs, "
                    f"got {values.shape}"
                )

    @property
    def epochs(self) -> int:
        """Number of epochs that the trials were planned for."""
        return int(self.losses.shape[1])


@dataclass(frozen=True, eq=False)
class History:
    """The datasets that train an optimizer, and the meta-features of the dataset that it is to be run on.

    `validation` are datasets to choose by while learning, for early stopping; empty where the protocol sets none apart.
    Made by `metaquery.evaluation.history`; raises LeakageError where two of target, `training` and `validation` share
    a family.
    """

    training: tuple[DatasetHistory, ...]
    target: Mapping[str, float]
    target_family: str = ""
    validation: tuple[DatasetHistory, ...] = ()

    def __post_init__(self) -> None:
        for kind, items in (("training", self.training), ("validation", self.validation)):
            for item in items:
                if item.family == self.target_family:
                    raise LeakageError(
                        f"{kind} dataset {item.dataset} is of the family of the target, {item.family}: leave it out"
                    )
        for item in self.validation:
            for other in self.training:
                if item.family == other.family:
                    raise LeakageError(
                        f"validation dataset {item.dataset} and training dataset {other.dataset} are of the family "
                        f"{item.family}: leave one of them out"
                    )
