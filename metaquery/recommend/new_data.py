"""A dataset that no corpus has, as the builder gives it: measured, and to be trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from metaquery.errors import MissingExtra
from metaquery.space import Config, SearchSpace
from metaquery.types import Observation

_GROUP = "metaquery.new_data"


class Trainer(Protocol):
    """Trains configs on a new dataset, on the real clock, and keeps the best model by validation."""

    space: SearchSpace
    epochs: int

    def accepts(self, config: Config) -> bool:
        """Whether `config` can be trained and gives a model."""

    def train(self, config: Config, epoch: int, seconds: float) -> tuple[Observation, int]:
        """Train `config` on up to `epoch`, as far as `seconds` will do; the observation there, and that epoch."""

    def write(self, out: Path, facts: Mapping[str, str]) -> dict[str, float]:
        """Write the best model and its card, in which `facts` stand, into the directory `out`; its metrics."""


class NewData(Protocol):
    """A new dataset. `metafeatures` were measured on its training part only; `notes` are for the reader."""

    @property
    def name(self) -> str:
        """Name of the dataset."""

    @property
    def family(self) -> str:
        """Its family: datasets that share patients or images with it."""

    @property
    def n_dims(self) -> int:
        """Spatial dimensions of a sample."""

    @property
    def metafeatures(self) -> Mapping[str, float]:
        """Meta-features by name."""

    @property
    def notes(self) -> list[str]:
        """What a reader should know."""

    def trainer(self, metric: str) -> Trainer:
        """What trains on it, choosing by `metric`."""


def open_new_data(roots: Sequence[Path], **place: Any) -> NewData:
    """The dataset at `place`, measured as those of the corpora at `roots` were.

    `place` is card (a name or a path) or images (a folder), data_root, weights_root and device. The entry point of the
    group `metaquery.new_data` makes it; MissingExtra where there is none, InvalidInput where the data cannot be read.
    """
    for entry in entry_points(group=_GROUP):
        found: NewData = entry.load()(roots, **place)
        return found
    raise MissingExtra.of("what reads images", "build")
