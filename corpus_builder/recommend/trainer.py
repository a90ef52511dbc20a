"""Training on a new dataset within a time, and keeping the best model by validation."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus_builder.datasets import Card, dataset_key
from corpus_builder.execute.work import Place, is_classical, load_study_data
from corpus_builder.study import Study
from corpus_builder.train.records import TrialResult, TrialSpec
from metaquery.errors import InvalidInput
from metaquery.metrics import Metric
from metaquery.space import Config
from metaquery.types import Observation, Status

if TYPE_CHECKING:
    from torch import Tensor

    from corpus_builder.train.checkpoint import Checkpoint


@dataclass(frozen=True, eq=False)
class Best:
    """The best model so far: its tensors after `epoch` epochs of training `config`, and its validation loss."""

    config: Config
    epoch: int
    loss: float
    tensors: dict[str, Tensor]


class Trainer:
    """Trains configs of `study` on the dataset of `card`, its first fold, with seed 0.

    `best` is the model with the lowest validation loss by `metric` of all ends of `train`, None before the first.
    """

    def __init__(self, study: Study, card: Card, place: Place, metric: Metric) -> None:
        from corpus_builder.train.device import resolve_device

        self.space = study.space_for(card)
        self.epochs = study.epochs
        self.metric = metric
        self.study, self.card, self.place = study, card, place
        self.device = resolve_device(place.device)
        self.data = load_study_data(study, card.name, 0, place.data_root)
        self.best: Best | None = None
        self.seconds = 0.0
        self._key = dataset_key(card, study.size(card), study.caps)
        self._trained: dict[Config, Checkpoint] = {}

    def accepts(self, config: Config) -> bool:
        """Whether `config` is a network of the study for such images."""
        try:
            return self.space.config(dict(config)) == config and not is_classical(self._spec(config))
        except InvalidInput:
            return False

    def train(self, config: Config, epoch: int, seconds: float) -> tuple[Observation, int]:
        """Train `config` on up to `epoch`, as far as `seconds` will do; the observation there, and that epoch.

        At least one new epoch is trained, or what is left of it when it fails; how many more fit is told from what an
        epoch took.
        """
        end = time.monotonic() + seconds
        until = min(epoch, self._done(config) + 1)
        while True:
            started, before = time.monotonic(), self._done(config)
            result = self._advance(config, until)
            took = time.monotonic() - started
            self.seconds += took
            done = len(result.epochs)
            left = end - time.monotonic()
            if result.status is not Status.COMPLETED or done >= epoch or done == before:
                break
            fitting = int(left / (took / (done - before)))
            if fitting < 1:
                break
            until = min(epoch, done + fitting)
        return self._observation(result), done

    def write(self, out: Path, facts: Mapping[str, str]) -> dict[str, float]:
        """Write the best model, what it is, and its card, in which `facts` stand, into the directory `out`.

        Returns the metrics on validation and test, which are those of the written file, read again. Raises InvalidInput
        where no model was trained.
        """
        from corpus_builder.recommend.model import write_model

        if self.best is None:
            raise InvalidInput("no epoch of any config was finished without a failure: give more time with --budget")
        return write_model(self, self.best, out, facts)

    def _done(self, config: Config) -> int:
        return len(self._trained[config].result.epochs) if config in self._trained else 0

    def _advance(self, config: Config, until: int) -> TrialResult:
        from corpus_builder.train.trial import advance_trial

        before = self._trained.get(config)
        now = advance_trial(
            self._spec(config), self.data, self.device, self.place.weights_root, until, before, keep_last=True
        )
        self._trained[config] = now
        if now.state is not None:
            self._keep(config, now.result, now.state)
        return now.result

    def _keep(self, config: Config, result: TrialResult, state: Mapping[str, Any]) -> None:
        loss = self._loss(result)
        if math.isfinite(loss) and (self.best is None or loss < self.best.loss):
            tensors = state["averaged"].get("average") or state["model"]
            copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
            self.best = Best(config, len(result.epochs), loss, copies)

    def _observation(self, result: TrialResult) -> Observation:
        sound = result.status is Status.COMPLETED
        return Observation(self._loss(result) if sound else math.nan, result.total_seconds, result.status)

    def _loss(self, result: TrialResult) -> float:
        value = result.epochs[-1][f"val_{self.metric.name}"] if result.epochs else None
        return math.nan if value is None else float(self.metric.to_loss(value))

    def _spec(self, config: Config) -> TrialSpec:
        return TrialSpec(self.card.name, self._key, 0, config, 0, self.epochs)
