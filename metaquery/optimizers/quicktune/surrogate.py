"""The two predictors at work on one dataset: refitted as observations come in, and asked about candidates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metaquery.errors import InvalidInput
from metaquery.optimizers.quicktune.artefact import Artefact
from metaquery.optimizers.quicktune.cost import CostPredictor
from metaquery.optimizers.quicktune.encoding import Array, Encoder, LossScale
from metaquery.optimizers.quicktune.extractor import shape_of
from metaquery.optimizers.quicktune.fitting import Fit, Predictor
from metaquery.optimizers.quicktune.network import Parameters, one_thread
from metaquery.optimizers.quicktune.posterior import Posterior
from metaquery.optimizers.quicktune.predictor import DeepKernelGP
from metaquery.optimizers.quicktune.refitting import RefitPolicy
from metaquery.optimizers.quicktune.table import Indices, Table
from metaquery.space import Config

_MOST_CONDITIONED = 512  # observations that a new posterior keeps: the newest of each config, then the newest
_MOST_GROWN = 128  # that it takes up beyond them


@dataclass(frozen=True)
class Prediction:
    """Of losses and of the seconds of one epoch more, each of shape (n,)."""

    mean: Array
    deviation: Array
    seconds: Array


class Surrogate:
    """Predicts the next epoch of every config of one dataset; without `cost`, each takes one second."""

    def __init__(
        self,
        configs: Sequence[Config],
        encoder: Encoder,
        metafeatures: Mapping[str, float],
        *,
        grey_box: bool,
        cost: bool,
        seed: int,
        policy: RefitPolicy,
        artefact: Artefact | None = None,
    ) -> None:
        self.table = Table(encoder, configs, metafeatures)
        self._scale = encoder.losses
        self._shape = shape_of(encoder, grey_box=grey_box)
        self._artefact = artefact
        self._seed = seed
        self._policy = policy
        self._reads_cost = cost
        self._rng = np.random.default_rng(seed)
        self._observed: list[tuple[int, int]] = []  # rows and epochs, in the order of telling
        self._conditioned = 0  # how many of them the posterior has taken up
        self._fitted = 0  # how many there were at the last fit, or when its fit was last found good
        self._surprises: list[float] = []  # negative log densities of those since then
        self._likelihood = math.inf  # the negative log likelihood per observation at the last fit
        self._best = math.inf
        self._stalled = 0  # observations since `_best`
        self._restarts = 0
        self._posterior: Posterior | None = None
        self._seconds = np.ones(len(configs))
        self._begin()

    def observe(self, row: int, epoch: int, loss: float, seconds: float) -> None:
        """Take up that the config at `row` came to `loss` at `epoch`, its next one (1-based), which took `seconds`."""
        self.table.losses[row, epoch - 1] = loss
        self.table.seconds[row, epoch - 1] = seconds
        self._observed.append((row, epoch))
        self._stalled = 0 if loss < self._best else self._stalled + 1
        self._best = min(loss, self._best)

    def predict(self, running: Sequence[int] = ()) -> Prediction:
        """The outcome of the next epoch of every config, refitted where it is due.

        `running` are the rows whose next epoch is under way: it is taken to end as predicted (kriging believer), so
        that it lowers the uncertainty around it.
        """
        with one_thread():
            posterior, scale = self._current(), self._scale
            deviations = posterior.deviations(running) * scale.deviation
        return Prediction(posterior.mean * scale.deviation + scale.mean, deviations, self._seconds.copy())

    def _current(self) -> Posterior:
        """The posterior after all observations."""
        policy, total = self._policy, len(self._observed)
        if self._stalled >= policy.patience * self.table.encoder.epochs * 2**self._restarts:
            self._stalled = 0
            self._restarts += 1
            self._begin()
            return self._fit(policy.early * policy.early_steps)
        if self._posterior is None or (self._fitted < policy.early and total > self._fitted):
            return self._fit(policy.early_steps)
        posterior = self._grown(self._posterior)
        if total - self._fitted >= max(1.0, policy.growth * self._fitted):
            if np.mean(self._surprises) > self._likelihood + policy.tolerance:
                return self._fit(policy.steps)
            self._fitted, self._surprises = total, []
        return posterior if len(posterior) <= _MOST_CONDITIONED + _MOST_GROWN else self._conditioned_anew()

    def _begin(self) -> None:
        """Predictors as meta-training left them, else with random weights, others each time."""
        self._gp, self._cost = DeepKernelGP(self._shape, self._rng), CostPredictor(self._shape, self._rng)
        if self._artefact is not None:
            _load(self._gp.parameters, self._artefact, "performance")
            _load(self._cost.parameters, self._artefact, "cost")

    def _fit(self, steps: int) -> Posterior:
        """Both predictors fitted, and the posterior made anew."""
        if self._artefact is None:
            self._scale = LossScale.of(self.table.losses, self._scale.useless)
            self._cost.centre(self.table.seconds)
        kept, rate = self._kept(), self._policy.rate
        size = min(len(kept), self._policy.most_points)
        models: list[Predictor] = [self._gp, self._cost] if self._reads_cost else [self._gp]
        fits = [Fit(model) for model in models]
        for step in range(steps):
            if step == 0 or size < len(kept):
                rows, epochs = _columns([kept[i] for i in np.sort(self._rng.permutation(len(kept))[:size])])
                points = self.table.points(rows, epochs)
                known = self._targets(rows, epochs), self.table.seconds_at(rows, epochs)
            for fit, values in zip(fits, known, strict=False):
                fit.step(points, values, rate, self._rng)
        posterior = self._conditioned_anew()
        self._fitted, self._surprises = len(self._observed), []
        self._likelihood = posterior.negative_log_likelihood
        return posterior

    def _conditioned_anew(self) -> Posterior:
        rows, epochs = _columns(self._kept())
        every = np.arange(len(self.table))
        ahead = self.table.points(every, self._next_epochs())
        features = self._gp.features(self.table.points(rows, epochs))
        self._posterior = Posterior(self._gp, features, self._targets(rows, epochs), self._gp.features(ahead))
        self._conditioned = len(self._observed)
        if self._reads_cost:
            self._seconds = np.exp(self._cost.log_seconds(ahead))
        return self._posterior

    def _grown(self, posterior: Posterior) -> Posterior:
        """`posterior` with the newest observations taken up, and their configs at the epoch after."""
        for row, epoch in self._observed[self._conditioned :]:
            one = np.array([row])
            target = float(self._targets(one, np.array([epoch]))[0])
            self._surprises.append(posterior.observe(row, target))
            ahead = self.table.points(one, np.array([epoch + 1]))
            posterior.move(row, self._gp.features(ahead))
            if self._reads_cost:
                self._seconds[row] = float(np.exp(self._cost.log_seconds(ahead)[0]))
        self._conditioned = len(self._observed)
        return posterior

    def _targets(self, rows: Indices, epochs: Indices) -> Array:
        return self._scale.standardise(self.table.losses_at(rows, epochs))

    def _next_epochs(self) -> Indices:
        epochs = np.ones(len(self.table), dtype=np.int64)
        rows, observed = _columns(self._observed)
        np.maximum.at(epochs, rows, observed + 1)
        return epochs

    def _kept(self) -> list[tuple[int, int]]:
        """The observations that a new posterior is made of, in the order of telling."""
        if len(self._observed) <= _MOST_CONDITIONED:
            return self._observed
        newest = {row: place for place, (row, _) in enumerate(self._observed)}
        places = sorted(newest.values(), reverse=True)
        others = set(range(len(self._observed))).difference(places)
        places += sorted(others, reverse=True)
        return [self._observed[place] for place in sorted(places[:_MOST_CONDITIONED])]


def _load(parameters: Parameters, artefact: Artefact, name: str) -> None:
    """Give `parameters` the values that `artefact` has for them."""
    try:
        parameters.load(artefact.part(name))
    except ValueError as error:
        raise InvalidInput(
            f"artefact {artefact.key} is damaged, its {name} predictor lacks weights: run  metaquery meta-train  again"
        ) from error


def _columns(pairs: Sequence[tuple[int, int]]) -> tuple[Indices, Indices]:
    both = np.array(pairs, dtype=np.int64).reshape(len(pairs), 2)
    return both[:, 0], both[:, 1]
