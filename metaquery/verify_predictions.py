"""Checks that the stored predictions belong to the trials and give the metrics that the curves say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import MedCurvesError
from metaquery.metrics import METRICS, compute_all
from metaquery.schema.predictions import CHECKPOINTS, DECIDES_BEST, SPLITS, checkpoint_epochs, predictions_path
from metaquery.types import Split

if TYPE_CHECKING:
    import pyarrow as pa

    from metaquery.corpus import Corpus
    from metaquery.schema.prediction_reader import FoldPredictions

_ROUNDING = 2e-5  # curves hold metrics, up to 16 nats, in single precision
_ECE_BINS = 15


@dataclass(frozen=True)
class _Trial:
    """What the tables say about one trial: its metrics by epoch, in the order of epochs."""

    trial_id: str
    curve: dict[int, dict[str, float | None]]


class _Bounds(NamedTuple):
    """By metric, how far a curve can be from what stored predictions give: so much, and that share of its value."""

    absolute: Mapping[str, float]
    relative: Mapping[str, float]


def prediction_problems(corpus: Corpus, tables: Mapping[str, pa.Table]) -> Iterator[str]:
    """One line for each fold that does not fit the tables, and each trial whose predictions contradict its curve."""
    if not corpus.manifest["predictions"]["checkpoints"]:
        return
    trials, parts = _trials(tables), _parts(tables)
    n_classes = dict(zip(*(tables["datasets"][name].to_pylist() for name in ("dataset", "n_classes")), strict=True))
    folds_of: dict[str, set[int]] = {}
    for dataset, fold in trials:
        folds_of.setdefault(dataset, set()).add(fold)
    rows = {entry["path"]: entry["rows"] for entry in corpus.manifest["files"]}
    bounds = _bounds(corpus.manifest)
    for name in sorted(name for name in rows if name.startswith("predictions/")):
        if name not in {predictions_path(dataset) for dataset in folds_of}:
            yield f"{name}: no trial of that dataset has an epoch"
    for dataset in sorted(folds_of):
        name = predictions_path(dataset)
        if name not in rows:
            yield f"{name}: the file is missing, trials of {dataset} have epochs"
            continue
        try:
            file = corpus.prediction_file(dataset)
            for fold in sorted(folds_of[dataset] | set(file.folds)):
                if fold not in folds_of[dataset]:
                    yield f"{name}: fold {fold} has predictions but no trials"
                    continue
                stored = file.fold(fold)
                expected = {part: parts.get((dataset, fold, part)) for part in SPLITS}
                found = [*_sample_problems(stored, expected), *_fold_problems(stored, trials[dataset, fold], bounds)]
                if stored.n_classes != n_classes.get(dataset):
                    found.append(f"{stored.n_classes} classes, the table datasets says {n_classes.get(dataset)}")
                yield from (f"{name}: fold {fold}: {problem}" for problem in found)
            count = sum(len(file.fold(fold).trials) for fold in file.folds)
            if count != rows[name]:
                yield f"{name}: {count} trials, the manifest says {rows[name]}"
        except MedCurvesError as error:
            yield f"{name}: {error}"


def _bounds(manifest: Mapping[str, Any]) -> _Bounds:
    of_curves = manifest.get("curves", {"max_error": {}, "max_relative_error": {}})
    stored = (manifest["predictions"]["max_error"], of_curves["max_error"])
    absolute = {name: _ROUNDING + sum(errors.get(name, 0.0) for errors in stored) for name in METRICS}
    return _Bounds(absolute, of_curves["max_relative_error"])


def _trials(tables: Mapping[str, pa.Table]) -> dict[tuple[str, int], list[_Trial]]:
    """The trials with epochs by dataset and fold, in the order of the table."""
    names = [f"{split}_{metric}" for split in SPLITS for metric in METRICS]
    curves: dict[str, dict[int, dict[str, float | None]]] = {}
    for row in tables["curves"].select(["trial_id", "epoch", *names]).to_pylist():
        curves.setdefault(row.pop("trial_id"), {})[row.pop("epoch")] = row
    found: dict[tuple[str, int], list[_Trial]] = {}
    for row in tables["trials"].select(["trial_id", "dataset", "fold"]).to_pylist():
        if row["trial_id"] in curves:
            found.setdefault((row["dataset"], row["fold"]), []).append(_Trial(row["trial_id"], curves[row["trial_id"]]))
    return found


def _parts(tables: Mapping[str, pa.Table]) -> dict[tuple[str, int, str], list[tuple[int, int]]]:
    """Sample index and label of every sample, by dataset, fold and role, ascending."""
    parts: dict[tuple[str, int, str], list[tuple[int, int]]] = {}
    for row in tables["splits"].select(["dataset", "fold", "role", "sample", "label"]).to_pylist():
        parts.setdefault((row["dataset"], row["fold"], row["role"]), []).append((row["sample"], row["label"]))
    return {key: sorted(pairs) for key, pairs in parts.items()}


def _sample_problems(stored: FoldPredictions, expected: Mapping[Split, Any]) -> Iterator[str]:
    for split in SPLITS:
        pairs = list(zip(stored.samples[split].tolist(), stored.labels[split].tolist(), strict=True))
        if pairs != expected[split]:
            yield f"the {split} samples or labels are not those of the table splits"


def _fold_problems(stored: FoldPredictions, trials: list[_Trial], bounds: _Bounds) -> Iterator[str]:
    known = {trial.trial_id for trial in trials}
    for trial_id in stored.rows:
        if trial_id not in known:
            yield f"trial {trial_id} has predictions but no curve"
    for trial in trials:
        if trial.trial_id not in stored.rows:
            yield f"trial {trial.trial_id} has no predictions"
            continue
        row = stored.rows[trial.trial_id]
        expected = checkpoint_epochs([metrics[DECIDES_BEST] for metrics in trial.curve.values()], list(trial.curve))
        if [expected.get(k, 0) for k in CHECKPOINTS] != stored.epochs[row].tolist():
            yield f"trial {trial.trial_id}: its checkpoints are at {stored.epochs[row].tolist()}, expected {expected}"
            continue
        for split in SPLITS:
            checked: dict[int, NDArray[np.float64]] = {}
            for checkpoint, p in stored.read_all(row, split).items():
                epoch = expected[checkpoint]
                if epoch in checked and np.array_equal(p, checked[epoch]):
                    continue  # best and last are mostly the same epoch as another
                checked[epoch] = p
                step = stored.step(row, CHECKPOINTS.index(checkpoint), split)
                absolute = {**bounds.absolute, "ece": bounds.absolute["ece"] + _ece_error(p, step)}
                curve = trial.curve[epoch]
                wrong = _contradictions(p, stored.labels[split], split, curve, bounds._replace(absolute=absolute))
                if wrong:
                    where = f"trial {trial.trial_id}: {split} predictions at {checkpoint} (epoch {epoch})"
                    yield f"{where} contradict the curve: {', '.join(wrong)}"


def _contradictions(
    p: NDArray[np.float64],
    labels: NDArray[np.int64],
    split: Split,
    curve: Mapping[str, float | None],
    bounds: _Bounds,
) -> list[str]:
    """The metrics that differ from the curve's by more than storing can explain.

    The most probable class is exact, so a metric of that class alone differs by the resolution of curves only.
    """
    if not np.isfinite(p).all():
        return ["they are not numbers"]
    wrong = []
    for name, value in compute_all(labels, p).items():
        said = curve[f"{split}_{name}"]
        said = math.nan if said is None else said
        allowed = bounds.absolute[name] + bounds.relative.get(name, 0.0) * abs(said)
        if math.isnan(value) != math.isnan(said) or abs(value - said) > allowed:
            wrong.append(f"{name} is {value:.6g}, the curve says {said:.6g}")
    return wrong


def _ece_error(p: NDArray[np.float64], step: float) -> float:
    """How far the calibration error of `p`, (n, n_classes), stored in steps of `step`, can be from the original one.

    The odds against the most probable class are off by a factor of at most exp(step), and a confidence beside an edge
    may have been in the other bin.
    """
    confidence = p.max(axis=1)
    odds = (1.0 - confidence) / confidence
    low, high = (1.0 / (1.0 + odds * math.exp(sign * step)) for sign in (1.0, -1.0))
    moved = np.ceil(low * _ECE_BINS - _ROUNDING) != np.ceil(high * _ECE_BINS + _ROUNDING)
    return float(np.maximum(high - confidence, confidence - low).mean() + 2.0 * moved.mean())
