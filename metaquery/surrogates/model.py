"""A trained surrogate: configs of a corpus's space in, whole learning curves out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from metaquery.errors import UnknownName
from metaquery.metrics import metric as metric_called
from metaquery.space import Config, SearchSpace, Value
from metaquery.surrogates.encoding import Encoder
from metaquery.surrogates.ends import Ends
from metaquery.surrogates.network import Network, Single
from metaquery.surrogates.targets import Scale
from metaquery.surrogates.trials import Floats, Task, Trials, losses_of
from metaquery.types import SOUND, Curve, Status

_CHUNK = 1024  # configs at a time, so that what is read of them stays near the processor
_BLOCK = 256  # of these, so that their layers do


@dataclass(frozen=True)
class Knowledge:
    """What is beside the network: `ends` are the statuses that it tells apart; `residual` (2, epochs) the standard
    deviation of standardised losses that its members agree on; `noise` (r, 2, epochs) directions whose sum with normal
    weights is the noise of one trial, and `noise_source` where they come from; `threshold` the distance from which on a
    config is out of distribution; `backbones` those that each dataset was tried with."""

    ends: tuple[Status, ...]
    residual: Floats
    noise: Floats
    noise_source: str
    threshold: float
    backbones: Mapping[str, Sequence[str]]


class Outputs(NamedTuple):
    """Raw curves (n, 4, epochs), losses as `learned` and seconds; and what `Ends` reads: logits (n, ends) and
    `log_epochs` (n,)."""

    curves: Single
    logits: Single
    log_epochs: Single


class Batch(NamedTuple):
    """Consecutive configs, at `rows` of all: the weights of their knots, (n, knots), and what is predicted for them."""

    rows: slice
    weights: Single
    outputs: Outputs


class Surrogate:
    """Predicts for any config of `space` on each of `tasks`; see `metaquery.surrogates.train`. `ends` reads how trials
    end from the outputs."""

    def __init__(
        self,
        *,
        metric: str,
        epochs: int,
        space: SearchSpace,
        tasks: Sequence[Task],
        epochless: frozenset[str],
        scale: Scale,
        network: Network,
        knowledge: Knowledge,
        stamp: Mapping[str, Any],
    ) -> None:
        self.metric = metric_called(metric)
        self.epochs = epochs
        self.space = space
        self.tasks = tuple(tasks)
        self.epochless = epochless
        self.scale = scale
        self.network = network
        self.knowledge = knowledge
        self.stamp = stamp
        self._encoder = Encoder(space, tasks)
        first = self._encoder.features @ network.weights[0]  # (members, knots, hidden)
        by_knot = first[:, : self._encoder.first_task].transpose(1, 0, 2).reshape(self._encoder.first_task, -1)
        self._knots = by_knot.astype(np.float32)
        biases = [first[:, self._encoder.first_task :] + network.biases[0]]  # of every layer, (members, tasks, size)
        for weight, bias in zip(network.weights[1:], network.biases[1:], strict=True):
            biases.append(biases[-1] @ weight + bias)
        biases = [bias.astype(np.float32) for bias in biases]
        self._floors = [-bias.transpose(1, 0, 2).reshape(len(tasks), -1) for bias in biases[:2]]
        self._members = len(first)
        self.ends = Ends(knowledge.ends, epochs)
        self._last = (network.weights[2] / self._members).reshape(-1, network.weights[2].shape[2])
        self._last_biases = biases[2]
        self._last_bias = biases[2].mean(axis=0)

    def task(self, dataset: str, fold: int) -> int:
        """The position of a dataset and fold in `tasks`; UnknownName for one that is not there."""
        for position, task in enumerate(self.tasks):
            if (task.dataset, task.fold) == (dataset, fold):
                return position
        names = sorted({task.dataset for task in self.tasks})
        if dataset not in names:
            raise UnknownName.of("dataset", dataset, names)
        folds = [str(task.fold) for task in self.tasks if task.dataset == dataset]
        raise UnknownName.of(f"fold of {dataset}", fold, folds)

    def knots_of(self, name: str, choices: Iterable[Value]) -> list[int]:
        """The columns of `Batch.weights` that say that hyperparameter `name` has one of `choices`."""
        return self._encoder.knots_of(name, choices)

    def one(self, config: Config, task: int) -> Outputs:
        """What is predicted for one config, with a leading axis of 1; InvalidConfig where it does not fit `space`."""
        rows, weights = self._encoder.one(config)
        first = np.array(weights, np.float32).dot(self._knots.take(rows, axis=0))
        np.maximum(first, self._floors[0][task], out=first)  # as in `_second`, with nothing to transpose
        second = np.matmul(first.reshape(self._members, 1, -1), self.network.weights[1]).reshape(1, -1)
        np.maximum(second, self._floors[1][task], out=second)
        outputs = second.dot(self._last)
        outputs += self._last_bias[task]
        return self._finish(outputs, task)

    def many(self, configs: Sequence[Config], task: int) -> Outputs:
        """What is predicted for `configs`, as `one` does it; InvalidConfig where one of them does not fit."""
        parts = [batch.outputs for batch in self.batches(configs, task)]
        return Outputs(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def batches(self, configs: Sequence[Config], task: int) -> Iterator[Batch]:
        """`many` in pieces that stay near the processor. The next one overwrites the weights of the last."""
        knots, hidden = self._knots.shape
        layer = _BLOCK * hidden
        # All that is large in one piece of memory: what is as much as the rest together, an allocator keeps.
        room = np.empty(2 * layer + min(len(configs), _CHUNK) * knots, np.float32)
        layers = room[: 2 * layer].reshape(2, _BLOCK, hidden)
        for start in range(0, len(configs), _CHUNK):
            rows = slice(start, start + _CHUNK)
            weights = self._encoder.many(configs[rows], room[2 * layer :])
            outputs = np.empty((len(weights), self._last.shape[1]), np.float32)
            for at in range(0, len(weights), _BLOCK):
                block = weights[at : at + _BLOCK]
                first, second = layers[:, : len(block)]
                self._second(np.matmul(block, self._knots, out=first), task, second)
                np.matmul(second, self._last, out=outputs[at : at + _BLOCK])
            outputs += self._last_bias[task]
            yield Batch(rows, weights, self._finish(outputs, task))

    def deviation(self, configs: Sequence[Config], task: int) -> Floats:
        """Standard deviations (n, 2, epochs) of the losses, as `learned`, of a single trial about what is predicted for
        it: where the members of the ensemble disagree, and what they all miss."""
        second = self._second(self._encoder.many(configs) @ self._knots, task)
        by_member = second.reshape(len(configs), self._members, -1).transpose(1, 0, 2)
        k = len(self.scale.basis)
        members = by_member @ self.network.weights[2][..., :k] + self._last_biases[:, task, None, :k]
        losses = np.tensordot(members, self.scale.basis[:, :2], axes=1)  # (members, n, 2, epochs)
        total = np.sqrt(losses.var(axis=0) + self.knowledge.residual**2)
        deviations: Floats = total * self.scale.scale[task, :2]
        return deviations

    def curve(self, config: Config, task: int, seed: int | None = None) -> Curve:
        """The curve of `config`: its mean, or with `seed` one that noise is added to and whose end is drawn.

        Without `seed` a trial fails where that is as likely as not, with the likeliest status. A failure is after the
        predicted number of epochs and costs one more.
        """
        found = self.one(config, task)
        curves = found.curves[0].astype(np.float64)
        rng = None
        if seed is not None:
            rng = np.random.default_rng([int(config.config_id, 16), seed])
            noise = np.tensordot(rng.normal(size=len(self.knowledge.noise)), self.knowledge.noise, axes=1)
            curves[:2] += noise * self.scale.scale[task, :2]
        shown = found.logits[0], found.log_epochs[0]
        end, ran = self.ends.likeliest_of_one(*shown) if rng is None else self.ends.drawn(*shown, rng)
        status = self.ends.statuses[end]
        losses = losses_of(curves[:2], self.metric)
        if not self._known[1]:
            losses[1] = np.nan
        seconds = curves[2] + curves[3]
        if status is Status.COMPLETED:
            if config.get("backbone") in self.epochless:
                value, test = losses[:, -1]
                return Curve.without_epochs(float(value), float(test), float(seconds[0]), status, self.epochs)
            return Curve(losses[0], losses[1], seconds, status, self.epochs)
        lost = 0.0 if status in SOUND else float(seconds[ran])
        return Curve(losses[0, :ran], losses[1, :ran], seconds[:ran], status, self.epochs, lost)

    @property
    def has_costs(self) -> bool:
        """Whether seconds are predicted; where they are not, every epoch counts one second."""
        return any(self._known[2:])

    def _second(self, first: Single, task: int, second: Single | None = None) -> Single:
        """The second hidden layer, without its bias, from the first as the sum of knots; both (n, members * hidden).

        max(x + b, 0) is max(x, -b) + b, and that b is left to the next layer's bias, which saves adding it.
        """
        np.maximum(first, self._floors[0][task], out=first)
        second = np.empty_like(first) if second is None else second
        shape = (len(first), self._members, -1)
        by_member, out = (layer.reshape(shape).transpose(1, 0, 2) for layer in (first, second))
        np.matmul(by_member, self.network.weights[1], out=out)
        return np.maximum(second, self._floors[1][task], out=second)

    def _finish(self, outputs: Single, task: int) -> Outputs:
        """Curves and ends from the outputs of the network, the mean over its members, (n, n_outputs)."""
        mean, basis = self._of_task[task]
        k = len(basis)
        curves = outputs[:, :k].dot(basis)
        curves += mean
        curves = curves.reshape(len(outputs), 4, self.epochs)
        seconds = curves[:, 2:]
        np.exp(seconds, out=seconds)
        for target in self._unknown_seconds:
            seconds[:, target] = 0.0 if self.has_costs else 0.5
        return Outputs(curves, outputs[:, k:-1], outputs[:, -1])

    @cached_property
    def _known(self) -> list[bool]:
        """Which of TARGETS the surrogate predicts."""
        known: list[bool] = self.scale.basis.any(axis=(0, 2)).tolist()
        return known

    @cached_property
    def _unknown_seconds(self) -> list[int]:
        return [target for target, known in enumerate(self._known[2:]) if not known]

    @cached_property
    def _of_task(self) -> list[tuple[Single, Single]]:
        """Mean (4 epochs,) and directions (k, 4 epochs) of the curves of every task, in their own units."""
        scale = self.scale
        means, bases = scale.offset + scale.scale * scale.mean, scale.scale[:, None] * scale.basis
        return [
            (mean.ravel().astype(np.float32), basis.reshape(len(basis), -1).astype(np.float32))
            for mean, basis in zip(means, bases, strict=True)
        ]


def backbones_tried(trials: Trials) -> dict[str, list[str]]:
    """The backbones that each dataset of `trials` was tried with; none where the space has no backbones."""
    found: dict[str, set[str]] = {}
    for config, task in zip(trials.configs, trials.task.tolist(), strict=True):
        if "backbone" in config:
            found.setdefault(trials.tasks[task].dataset, set()).add(str(config["backbone"]))
    return {dataset: sorted(backbones) for dataset, backbones in found.items()}
