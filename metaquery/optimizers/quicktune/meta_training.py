"""Meta-training: both predictors fitted to the learning curves of the training datasets, before the first ask."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from metaquery.errors import InvalidInput
from metaquery.optimizers.history import DatasetHistory
from metaquery.optimizers.quicktune.artefact import Artefact, Settings, cached_path, content_key
from metaquery.optimizers.quicktune.cost import CostPredictor
from metaquery.optimizers.quicktune.encoding import Array, Encoder, LossScale, MetafeatureScale
from metaquery.optimizers.quicktune.extractor import shape_of
from metaquery.optimizers.quicktune.fitting import Fit, Predictor
from metaquery.optimizers.quicktune.network import one_thread
from metaquery.optimizers.quicktune.predictor import DeepKernelGP
from metaquery.optimizers.quicktune.table import Indices, Points, Table

BATCH = 32
CHECK_EVERY = 20  # steps from one validation to the next
_CHECK_POINTS = 128  # per validation dataset, the same each time
_RATE = 1e-3
_VALIDATION_SHARE = 0.25
_USELESS = 0.95  # quantile of the training losses that stands for having learned next to nothing

Progress = Callable[[int, int, float], None]  # steps done, steps in all, best validation loss so far


def meta_train(
    training: Sequence[DatasetHistory],
    settings: Settings,
    progress: Progress | None = None,
    validation: Sequence[DatasetHistory] = (),
) -> Artefact:
    """Predictors fitted to the datasets `training`; the same bytes for the same data and settings.

    A step fits 32 points, each a config up to a random epoch, of one training dataset; the learning rate falls as
    a half cosine. The best step is chosen, for each predictor its own, on the datasets `validation`. Where there are
    none, a quarter of the families, at least one, is held out for that; with a single family, a quarter of its configs.
    """
    for role, items in (("training", training), ("validation", validation)):
        if (items or role == "training") and not any(np.isfinite(item.losses).any() for item in items):
            raise InvalidInput(f"meta-training needs {role} datasets with at least one trial that ran, got none")
    sources = sorted([*training, *validation], key=lambda item: item.dataset)
    started = time.perf_counter()
    encoder = _encoder(sources, settings)
    rng = np.random.default_rng(settings.seed)
    if validation:
        train, held_out = (_usable(encoder, items) for items in (training, validation))
    else:
        train, held_out = _split(_usable(encoder, training), rng)
    with one_thread():
        shape = shape_of(encoder, grey_box=settings.grey_box)
        gp, cost = DeepKernelGP(shape, rng), CostPredictor(shape, rng)
        cost.centre(np.concatenate([item.seconds.ravel() for item in sources]))
        runs = [
            _Run(gp, settings.steps, lambda batch: (batch.points, batch.targets)),
            _Run(cost, settings.steps, lambda batch: (batch.points, batch.seconds)),
        ]
        checks = [source.sample(rng, _CHECK_POINTS) for source in held_out]
        for step in range(1, settings.steps + 1):
            batch = train[int(rng.integers(len(train)))].sample(rng, BATCH)
            for run in runs:
                run.step(batch, rng)
            if step % CHECK_EVERY == 0 or step == settings.steps:
                for run in runs:
                    run.check(checks)
                if progress is not None:
                    progress(step, settings.steps, runs[0].best)
    weights = {
        f"{name}.{key}": value
        for name, run in zip(("performance", "cost"), runs, strict=True)
        for key, value in run.weights.items()
    }
    report: dict[str, Any] = {
        "training": [source.name for source in train],
        "validation": [source.name for source in held_out],
        "validation_loss": {"performance": runs[0].best, "cost": runs[1].best},
        "seconds": time.perf_counter() - started,
    }
    families = tuple(sorted({item.family for item in sources}))
    key = content_key(training, settings, validation)
    return Artefact(key, encoder, settings, families, weights, report)


class _Batch(NamedTuple):
    points: Points
    targets: Array
    seconds: Array


class _Source:
    """One dataset to draw points from, or the part of its configs in `rows`."""

    def __init__(self, encoder: Encoder, item: DatasetHistory, rows: Indices | None = None) -> None:
        self.item = item
        self.encoder = encoder
        self.name = item.dataset
        self.family = item.family
        self._table = Table(encoder, item.configs, item.metafeatures)
        self._table.losses[:, : item.epochs] = item.losses
        self._table.seconds[:, : item.epochs] = item.seconds
        # Epochs after the first that cost nothing were not trained: there the last loss stands.
        trained = np.isfinite(self._table.losses) & ((self._table.seconds != 0.0) | (np.arange(encoder.epochs) == 0))
        run = np.logical_and.accumulate(trained, axis=1).sum(axis=1)
        usable = np.flatnonzero(run)
        self.rows = usable if rows is None else np.intersect1d(usable, rows)
        self._run = run

    def part(self, rows: Indices) -> _Source:
        """The same dataset with only the configs `rows`."""
        return _Source(self.encoder, self.item, rows)

    def sample(self, rng: np.random.Generator, n: int) -> _Batch:
        """`n` points: configs drawn with replacement, each at an epoch that it ran to."""
        rows = self.rows[rng.integers(len(self.rows), size=n)]
        epochs = 1 + (rng.random(n) * self._run[rows]).astype(np.int64)
        targets = self.encoder.losses.standardise(self._table.losses_at(rows, epochs))
        seconds = self._table.seconds_at(rows, epochs)
        return _Batch(self._table.points(rows, epochs), targets, seconds)


class _Run:
    """One predictor in training, and its best weights so far."""

    def __init__(self, model: Predictor, steps: int, reads: Callable[[_Batch], tuple[Points, Array]]) -> None:
        self.best = math.inf
        self.weights: dict[str, Array] = {}
        self._model = model
        self._reads = reads
        self._fit = Fit(model)
        self._steps, self._done = steps, 0

    def step(self, batch: _Batch, rng: np.random.Generator) -> None:
        rate = 0.5 * _RATE * (1.0 + math.cos(math.pi * self._done / self._steps))
        self._fit.step(*self._reads(batch), rate, rng)
        self._done += 1

    def check(self, batches: Sequence[_Batch]) -> None:
        value = float(np.mean([self._model.loss(*self._reads(batch)) for batch in batches]))
        if value < self.best or not self.weights:
            self.best = value
            self.weights = self._model.parameters.arrays()


def _encoder(sources: Sequence[DatasetHistory], settings: Settings) -> Encoder:
    losses = np.concatenate([item.losses.ravel() for item in sources])
    configs = [config for item in sources for config in item.configs]
    return Encoder(
        axes=Encoder.axes_of(configs),
        epochs=max(item.epochs for item in sources),
        losses=LossScale.of(losses, useless=max(float(np.nanquantile(losses, _USELESS)), 1e-6)),
        metafeatures=MetafeatureScale.of(item.metafeatures for item in sources)
        if settings.metafeatures
        else MetafeatureScale(),
    )


def _usable(encoder: Encoder, items: Sequence[DatasetHistory]) -> list[_Source]:
    """Those with a trial that ran, by name."""
    sources = (_Source(encoder, item) for item in sorted(items, key=lambda item: item.dataset))
    return [source for source in sources if len(source.rows)]


def _split(usable: Sequence[_Source], rng: np.random.Generator) -> tuple[list[_Source], list[_Source]]:
    """What trains, and what is held out."""
    families = sorted({source.family for source in usable})
    if len(families) > 1:
        order = rng.permutation(len(families))[: max(1, round(_VALIDATION_SHARE * len(families)))]
        out = {families[i] for i in order.tolist()}
        return [s for s in usable if s.family not in out], [s for s in usable if s.family in out]
    train, held_out = [], []
    for source in usable:
        rows = rng.permutation(source.rows)
        n_out = max(1, round(_VALIDATION_SHARE * len(rows)))
        held_out.append(source.part(rows[:n_out]))
        train.append(source.part(rows[n_out:] if len(rows) > n_out else rows))
    return train, held_out


def obtain(
    training: Sequence[DatasetHistory], settings: Settings, validation: Sequence[DatasetHistory] = ()
) -> Artefact:
    """The artefact of these datasets and `settings`: from the user's cache, else meta-trained now and kept there.

    Says on standard error how far it is, and in the end how long it took: that time is no part of any ask.
    """
    path = cached_path(content_key(training, settings, validation))
    if path.is_file():
        with suppress(InvalidInput):  # a damaged file is made again
            return Artefact.load(path)
    artefact = meta_train(training, settings, say, validation)
    artefact.save(path)
    print(f"meta-trained in {artefact.report['seconds']:.0f} s, kept in {path}", file=sys.stderr)
    return artefact


def say(step: int, steps: int, best: float) -> None:
    """A `Progress` of ten lines on standard error."""
    if step * 10 // steps > (step - CHECK_EVERY) * 10 // steps:
        print(f"meta-training: {step}/{steps} steps, best validation loss {best:.3f}", file=sys.stderr)
