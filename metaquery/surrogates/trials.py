"""The trials of a corpus as the arrays that a surrogate learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidInput
from metaquery.metrics import metric as metric_called
from metaquery.space import Config, SearchSpace
from metaquery.types import EPOCHLESS_FAMILY, Status

if TYPE_CHECKING:
    from metaquery.corpus import Corpus
    from metaquery.metrics import Metric

Floats = NDArray[np.float64]

TARGETS = ("val", "test", "train_seconds", "eval_seconds")  # what a curve is predicted of; the last two as logarithms
_LEAST_SECONDS = 1e-6
_LEAST_LOSS = 1e-6  # of a logarithmic metric: what is less is the same to a model
_LARGEST = 100.0  # a logarithm beyond all losses, so that no prediction overflows


@dataclass(frozen=True)
class Task:
    """What a config is tried on: a dataset and fold, with the meta-features of the fold."""

    dataset: str
    fold: int
    metafeatures: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Trials:
    """Trials by row.

    `curves` (n, 4, epochs) holds what TARGETS names: losses to minimise as `learned`, and logarithms of seconds, NaN
    where there are none. Where a trial stopped early, its last losses stand; a config without epochs has its losses at
    all of them and its seconds at the first."""

    metric: str
    epochs: int
    space: SearchSpace
    tasks: tuple[Task, ...]
    epochless: frozenset[str]
    configs: Sequence[Config]
    task: NDArray[np.int64]
    seed: NDArray[np.int64]
    status: Sequence[Status]
    epochs_run: NDArray[np.int64]
    curves: Floats

    def __len__(self) -> int:
        return len(self.configs)

    def take(self, rows: NDArray[np.int64]) -> Trials:
        """The trials in `rows`, of the same tasks."""
        return Trials(
            self.metric,
            self.epochs,
            self.space,
            self.tasks,
            self.epochless,
            [self.configs[row] for row in rows],
            self.task[rows],
            self.seed[rows],
            [self.status[row] for row in rows],
            self.epochs_run[rows],
            self.curves[rows],
        )


def read_trials(corpus: Corpus, metric: str) -> Trials:
    """All trials of `corpus`, whatever their design; raises InvalidInput where `metric` has no validation values."""
    measure = metric_called(metric)
    columns = [f"val_{metric}", f"test_{metric}", "train_seconds", "eval_seconds"]
    known = _metafeatures(corpus)
    backbones = corpus.table("backbones", ["backbone", "family"]).to_pylist()
    epochless = frozenset(row["backbone"] for row in backbones if row["family"] == EPOCHLESS_FAMILY)
    configs = configs_of(corpus)
    folds = corpus.table("trials", ["dataset", "fold"]).group_by(["dataset", "fold"]).aggregate([]).to_pylist()
    keys = sorted((row["dataset"], row["fold"]) for row in folds)
    rows, parts, owner = [], [], []
    for number, (dataset, fold) in enumerate(keys):
        trials, data = corpus.curves(dataset, fold, columns)
        found = trials.to_pylist()
        values = np.stack([data[name].to_numpy().astype(np.float64) for name in columns])
        with np.errstate(invalid="ignore"):
            values[:2] = learned(np.array([[measure.to_loss(value) for value in side] for side in values[:2]]), measure)
            values[2:] = np.log(np.maximum(values[2:], _LEAST_SECONDS))
        part = np.full((len(found), len(TARGETS), corpus.epochs), np.nan)
        end = 0
        for row, trial in enumerate(found):
            ran = trial["epochs_run"]
            mine = values[:, end : end + ran]
            end += ran
            if ran and configs[trial["config_id"]].get("backbone") in epochless:
                part[row, :2] = mine[:2, :1]
                part[row, 2:, 0] = mine[2:, 0]
                continue
            part[row, :, :ran] = mine
            if ran and trial["status"] == Status.EARLY_STOPPED:
                part[row, :2, ran:] = mine[:2, -1:]
        rows += found
        parts.append(part)
        owner += [number] * len(found)
    curves = np.concatenate(parts)
    if not np.isfinite(curves[:, 0]).any():
        raise InvalidInput(
            f"corpus {corpus.name} has no validation values of {metric}: use another metric, such as "
            f"{corpus.default_metric}"
        )
    return Trials(
        metric,
        corpus.epochs,
        corpus.space,
        tuple(Task(dataset, fold, known.get((dataset, fold), {})) for dataset, fold in keys),
        epochless,
        [configs[row["config_id"]] for row in rows],
        np.array(owner),
        np.array([row["seed"] for row in rows]),
        [Status(row["status"]) for row in rows],
        np.array([row["epochs_run"] for row in rows]),
        curves,
    )


def learned(losses: Floats, measure: Metric) -> Floats:
    """Losses as a surrogate learns them: their logarithms where `measure` is logarithmic."""
    return np.log(np.maximum(losses, _LEAST_LOSS)) if measure.logarithmic else losses


def losses_of(values: NDArray[Any], measure: Metric) -> Floats:
    """The losses that are `learned` as `values`, moved into the bounds of `measure`."""
    if measure.logarithmic:
        values = np.exp(np.minimum(values, _LARGEST, dtype=np.float64))
    bounded: Floats = np.maximum(values, 0.0, dtype=np.float64)
    return np.minimum(bounded, measure.worst_loss, out=bounded)


def configs_of(corpus: Corpus) -> dict[str, Config]:
    """The configs of `corpus` by id, whatever their design."""
    rows = corpus.table("configs").to_pylist()
    values = ({n: v for n, v in row.items() if n not in ("config_id", "design") and v is not None} for row in rows)
    return {row["config_id"]: corpus.space.config(active) for row, active in zip(rows, values, strict=True)}


def _metafeatures(corpus: Corpus) -> dict[tuple[str, int], dict[str, float]]:
    found: dict[tuple[str, int], dict[str, float]] = {}
    for row in corpus.table("metafeatures", ["dataset", "fold", "name", "value"]).to_pylist():
        if row["value"] is not None and np.isfinite(row["value"]):
            found.setdefault((row["dataset"], row["fold"]), {})[row["name"]] = row["value"]
    return found
