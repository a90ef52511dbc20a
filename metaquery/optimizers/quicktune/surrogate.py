"""The two predictors at work on one dataset: refitted as observations come in, and asked about candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from metaquery.errors import InvalidInput
from metaquery.optimizers.quicktune.artefact import Artefact
from metaquery.optimizers.quicktune.cost import CostPredictor
from metaquery.optimizers.quicktune.encoding import Array, Encoder, LossScale
from metaquery.optimizers.quicktune.extractor import contained, shape_of
from metaquery.optimizers.quicktune.fitting import descend
from metaquery.optimizers.quicktune.predictor import DeepKernelGP, Posterior
from metaquery.optimizers.quicktune.table import Indices, Table
from metaquery.space import Config


@dataclass(frozen=True)
class RefitPolicy:
    """When the predictors are fitted again, and for how long.

    Until `early` observations, every new one leads to `early_steps` of Adam; from then on `steps` follow whenever
    the observations have grown by the share `growth`. In between, the posterior takes new points up exactly, with
    all parameters fixed.
    """

    early: int = 10
    early_steps: int = 20
    steps: int = 20
    growth: float = 0.2
    rate: float = 3e-4
    most_points: int = 256  # of one fit, drawn at random from more


POLICY = RefitPolicy()
_MOST_CONDITIONED = 512  # observations that the posterior keeps: the newest of each config, then the newest


@dataclass(frozen=True)
class Prediction:
    """Of losses and of the seconds of one epoch more, each of shape (n,)."""

    mean: Array
    deviation: Array
    seconds: Array


class Surrogate:
    """Predicts the next epoch of the configs of one dataset; without `cost`, each takes one second."""

    def __init__(
        self,
        configs: Sequence[Config],
        encoder: Encoder,
        metafeatures: Mapping[str, float],
        *,
        grey_box: bool,
        cost: bool,
        seed: int,
        artefact: Artefact | None = None,
        policy: RefitPolicy = POLICY,
    ) -> None:
        self.table = Table(encoder, configs, metafeatures)
        self._scale = encoder.losses
        self._meta_trained = artefact is not None
        self._seed = seed
        self._policy = policy
        self._reads_cost = cost
        self._rng = np.random.default_rng(seed)
        self._observed: list[tuple[int, int]] = []  # rows and epochs, in the order of telling
        self._conditioned = 0  # how many of them the posterior holds
        self._fitted = 0  # how many there were at the last fit
        self._posterior: Posterior | None = None
        shape = shape_of(encoder, grey_box=grey_box)
        with contained(seed):
            self._gp, self._cost = DeepKernelGP(shape).eval(), CostPredictor(shape).eval()
        if artefact is not None:
            _load(self._gp, artefact, "performance")
            _load(self._cost, artefact, "cost")

    def observe(self, row: int, epoch: int, loss: float, seconds: float) -> None:
        """Take up that the config at `row` came to `loss` at `epoch` (1-based), which took `seconds`."""
        self.table.losses[row, epoch - 1] = loss
        self.table.seconds[row, epoch - 1] = seconds
        self._observed.append((row, epoch))

    def predict(self, rows: Indices, epochs: Indices, running: Sequence[tuple[int, int]]) -> Prediction:
        """The outcome of `epochs` (1-based) of the configs at `rows`, both of shape (n,), refitted where it is due.

        `running` are the rows and epochs of evaluations not yet told: each is taken to end as predicted (kriging
        believer), so that it lowers the uncertainty around it.
        """
        with contained(self._seed + len(self._observed)), torch.no_grad():
            posterior = self._refitted() if self._due else self._grown()
            if running:
                features = self._gp.extractor(self.table.points(*_columns(running)))
                posterior = posterior.appended(features, posterior.predict(features)[0])
            points = self.table.points(rows, epochs)
            mean, deviation = posterior.predict(self._gp.extractor(points))
            seconds = self._cost(points).exp() if self._reads_cost else torch.ones_like(mean)
        scale = self._scale
        return Prediction(
            mean.numpy() * scale.deviation + scale.mean, deviation.numpy() * scale.deviation, seconds.numpy()
        )

    @property
    def _due(self) -> bool:
        new = len(self._observed) - self._fitted
        if self._fitted < self._policy.early:
            return new > 0
        return new >= max(1.0, self._policy.growth * self._fitted)

    def _refitted(self) -> Posterior:
        policy = self._policy
        if not self._meta_trained:
            self._scale = LossScale.of(self.table.losses, self._scale.useless)
            self._cost.centre(torch.from_numpy(self.table.seconds))
        kept = self._kept()
        chosen = kept
        if len(kept) > policy.most_points:
            chosen = [kept[i] for i in np.sort(self._rng.permutation(len(kept))[: policy.most_points])]
        rows, epochs = _columns(chosen)
        points = self.table.points(rows, epochs)
        targets = torch.from_numpy(self._scale.standardise(self.table.losses_at(rows, epochs)))
        seconds = torch.from_numpy(self.table.seconds_at(rows, epochs))
        steps = policy.early_steps if len(self._observed) <= policy.early else policy.steps
        with torch.enable_grad():
            descend(self._gp, lambda: self._gp.negative_log_likelihood(points, targets), steps, policy.rate)
            if self._reads_cost:
                descend(self._cost, lambda: self._cost.squared_error(points, seconds), steps, policy.rate)
        rows, epochs = _columns(kept)
        targets = torch.from_numpy(self._scale.standardise(self.table.losses_at(rows, epochs)))
        self._posterior = self._gp.posterior(self.table.points(rows, epochs), targets)
        self._fitted = self._conditioned = len(self._observed)
        return self._posterior

    def _grown(self) -> Posterior:
        assert self._posterior is not None
        new = self._observed[self._conditioned :]
        if new:
            rows, epochs = _columns(new)
            targets = torch.from_numpy(self._scale.standardise(self.table.losses_at(rows, epochs)))
            features = self._gp.extractor(self.table.points(rows, epochs))
            self._posterior = self._posterior.appended(features, targets)
            self._conditioned = len(self._observed)
        return self._posterior

    def _kept(self) -> list[tuple[int, int]]:
        """The observations that the posterior is made of, in the order of telling."""
        if len(self._observed) <= _MOST_CONDITIONED:
            return self._observed
        newest = {row: place for place, (row, _) in enumerate(self._observed)}
        places = sorted(newest.values(), reverse=True)
        others = set(range(len(self._observed))).difference(places)
        places += sorted(others, reverse=True)
        return [self._observed[place] for place in sorted(places[:_MOST_CONDITIONED])]


def _load(model: nn.Module, artefact: Artefact, name: str) -> None:
    """Give `model` the weights that `artefact` has for it."""
    try:
        model.load_state_dict({key: torch.tensor(value) for key, value in artefact.part(name).items()})
    except RuntimeError as error:
        raise InvalidInput(
            f"artefact {artefact.key} is damaged, its {name} predictor lacks weights: run  metaquery meta-train  again"
        ) from error


def _columns(pairs: Sequence[tuple[int, int]]) -> tuple[Indices, Indices]:
    both = np.array(pairs, dtype=np.int64).reshape(len(pairs), 2)
    return both[:, 0], both[:, 1]
