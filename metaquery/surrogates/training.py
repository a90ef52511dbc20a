"""Training a surrogate on the trials of a corpus."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from metaquery.space import Distances
from metaquery.surrogates.encoding import Encoder
from metaquery.surrogates.model import Knowledge, Surrogate, backbones_tried
from metaquery.surrogates.network import Progress, Settings
from metaquery.surrogates.network import train as train_network
from metaquery.surrogates.targets import CurveLoss, Scale
from metaquery.surrogates.trials import Floats, Trials, read_trials
from metaquery.types import Status

if TYPE_CHECKING:
    from metaquery.corpus import Corpus

DEFAULT = Settings()
_HELD_OUT = 5  # one in so many configs calibrates the uncertainty
_QUANTILE = 0.99  # of the distances of training configs to their nearest other one
_MOST_DISTANCES = 1000
_NOISE_DIRECTIONS = 16


def train(
    corpus: Corpus,
    metric: str | None = None,
    settings: Settings = DEFAULT,
    seed: int = 0,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _of: None,
) -> Surrogate:
    """Learn the trials of `corpus`, all datasets at once: first without a fifth of the configs, which tells how far the
    surrogate is off, then with all.

    `metric` is the corpus's `default_metric` unless given. Raises InvalidInput where there is too little to learn from.
    """
    started = time.process_time()
    trials = read_trials(corpus, corpus.default_metric if metric is None else metric)
    out = folds_of(trials, _HELD_OUT) == 0
    residual = None
    if out.any() and not out.all():
        part = fit(trials.take(np.flatnonzero(~out)), settings, seed, lambda a, b: progress("calibrating", a, b))
        residual = _residual(part, trials.take(np.flatnonzero(out)))
    whole = fit(trials, settings, seed, lambda a, b: progress("training", a, b), residual)
    whole.stamp = {
        "corpus": corpus.name,
        "corpus_version": corpus.version,
        "corpus_hash": corpus.hash,
        "trials": len(trials),
        "settings": asdict(settings),
        "seed": seed,
        "cpu_seconds": round(time.process_time() - started, 1),
    }
    return whole


def fit(
    trials: Trials,
    settings: Settings = DEFAULT,
    seed: int = 0,
    progress: Progress = lambda _done, _of: None,
    residual: Floats | None = None,
) -> Surrogate:
    """A surrogate of `trials` alone; `residual` (2, epochs) is what `Knowledge` has."""
    scale = Scale.of(trials)
    z = scale.standardise(trials)
    ends = tuple(status for status in Status if status in trials.status)
    end_of = np.array([ends.index(status) for status in trials.status])
    early = np.array([status is not Status.COMPLETED for status in trials.status])
    log_epochs = np.where(early, np.log1p(trials.epochs_run), np.nan)
    encoder = Encoder(trials.space, trials.tasks)
    inputs = encoder.inputs(trials.configs, trials.task).astype(np.float32)
    loss = CurveLoss(z, scale, end_of, len(ends), log_epochs)
    network = train_network(inputs, loss.n_outputs, loss, settings, seed, progress)
    noise, source = _noise(trials, scale, z)
    knowledge = Knowledge(
        ends,
        np.zeros((2, trials.epochs)) if residual is None else residual,
        noise,
        source,
        _threshold(trials, seed),
        backbones_tried(trials),
    )
    return Surrogate(
        metric=trials.metric,
        epochs=trials.epochs,
        space=trials.space,
        tasks=trials.tasks,
        epochless=trials.epochless,
        scale=scale,
        network=network,
        knowledge=knowledge,
        stamp={},
    )


def folds_of(trials: Trials, n: int) -> NDArray[np.int64]:
    """The part, from 0 to n - 1, that each trial is in, by its config alone: all seeds and folds of a config are
    together."""
    return np.array([int(config.config_id, 16) % n for config in trials.configs])


def _residual(surrogate: Surrogate, held_out: Trials) -> Floats:
    """Standard deviation (2, epochs) of the standardised losses of held-out trials, less what the disagreement of
    the ensemble explains."""
    gaps = np.full((len(held_out), 2, held_out.epochs), np.nan)
    spread = np.zeros_like(gaps)
    for task in np.unique(held_out.task):
        rows = np.flatnonzero(held_out.task == task)
        configs = [held_out.configs[row] for row in rows]
        own = surrogate.scale.scale[task, :2]
        gaps[rows] = (surrogate.many(configs, int(task)).curves[:, :2] - held_out.curves[rows, :2]) / own
        spread[rows] = surrogate.deviation(configs, int(task)) / own
    known = np.isfinite(gaps)
    counts = np.maximum(known.sum(axis=0), 1)
    error = np.where(known, gaps**2, 0.0).sum(axis=0) / counts
    explained = np.where(known, spread**2, 0.0).sum(axis=0) / counts
    residual: Floats = np.sqrt(np.maximum(error - explained, 0.1 * error))
    return residual


def _noise(trials: Trials, scale: Scale, z: Floats) -> tuple[Floats, str]:
    """Directions (r, 2, epochs) of the noise of one trial in standardised losses, and where they come from.

    `repeats`: trials that differ by their seed alone, about their mean. Where there are none, `jitter`: trials about
    their own smooth curves, which is less than all noise.
    """
    losses = z[:, :2]
    groups: dict[tuple[int, str], list[int]] = {}
    for row, config in enumerate(trials.configs):
        if np.isfinite(losses[row, 0]).all():
            groups.setdefault((int(trials.task[row]), config.config_id), []).append(row)
    repeated = [rows for rows in groups.values() if len(rows) > 1]
    if repeated:
        parts = [(losses[r] - losses[r].mean(axis=0)) * np.sqrt(len(r) / (len(r) - 1)) for r in repeated]
        source, gaps = "repeats", np.concatenate(parts)
    else:
        rows = [row for group in groups.values() for row in group]
        smooth = scale.mean + np.tensordot(scale.project(z[rows]), scale.basis, axes=1)
        source, gaps = "jitter", losses[rows] - smooth[:, :2]
    flat = np.nan_to_num(gaps).reshape(len(gaps), -1) / np.sqrt(max(len(gaps), 1))
    _, sizes, directions = np.linalg.svd(flat, full_matrices=False)
    kept = (sizes[:, None] * directions)[:_NOISE_DIRECTIONS]
    return kept.reshape(-1, 2, trials.epochs), source


def _threshold(trials: Trials, seed: int) -> float:
    """The distance that hardly any config of `trials` has to the nearest other one."""
    configs = list(dict.fromkeys(trials.configs))
    distances = Distances(trials.space, configs)
    rows = np.random.default_rng(seed).permutation(len(configs))[:_MOST_DISTANCES]
    nearest = [np.delete(distances(configs[row]), row).min() for row in rows] if len(configs) > 1 else [0.0]
    return float(np.quantile(nearest, _QUANTILE))
