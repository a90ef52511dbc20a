"""LCBench (Zimmer et al., Auto-PyTorch, TPAMI 2021): its JSON as distributed, such as `data_2k.json`.

A file is {dataset: {config_id: {"config": ..., "log": {tag: [one value per record]}, "results": ...}}}. Record 0 was
taken before training, and one more after epoch 50; accuracies are in percent, balanced ones are not; `time` counts from
the start of the run. The tag `Train/test_result` is test accuracy. The datasets are tables, not images, and there is no
backbone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metaquery.errors import InvalidData
from metaquery.importers._source import Configs, Floats, Run, Source, counted, read_json
from metaquery.metrics import METRICS
from metaquery.space import Hyperparameter, SearchSpace
from metaquery.types import Status

EPOCHS = 50
SPACE = SearchSpace(
    "lcbench",
    (
        Hyperparameter("batch_size", "integer", 64, low=16, high=512, log=True),
        Hyperparameter("learning_rate", "float", 1e-2, low=1e-4, high=1e-1, log=True),
        Hyperparameter("momentum", "float", 0.9, low=0.1, high=0.99),
        Hyperparameter("weight_decay", "float", 1e-5, low=1e-5, high=1e-1),
        Hyperparameter("num_layers", "integer", 3, low=1, high=5),
        Hyperparameter("max_units", "integer", 256, low=64, high=1024, log=True),
        Hyperparameter("max_dropout", "float", 0.0, low=0.0, high=1.0),
    ),
)
_TAGS = {  # column: tag and the factor to a share
    "val_loss": ("Train/val_cross_entropy", 1.0),
    "val_accuracy": ("Train/val_accuracy", 0.01),
    "val_balanced_accuracy": ("Train/val_balanced_accuracy", 1.0),
    "test_loss": ("Train/test_cross_entropy", 1.0),
    "test_accuracy": ("Train/test_result", 0.01),
    "test_balanced_accuracy": ("Train/test_balanced_accuracy", 1.0),
    "train_loss": ("Train/train_cross_entropy", 1.0),
    "learning_rate": ("Train/lr", 1.0),
}
_NEEDED = ("epoch", "time", "Train/val_accuracy")


def read(path: Path) -> Source:
    """The source in the file `path`; raises InvalidData where it is not of this form."""
    data = read_json(path)
    make = Configs(SPACE)
    runs, rows, features = [], [], {}
    fixed: dict[str, set[str]] = {}
    clipped = 0
    for dataset, configs in data.items():
        if not isinstance(configs, Mapping) or not configs:
            raise InvalidData(f"{path}: {dataset} must hold runs by config id, got {type(configs).__name__}")
        for config_id, entry in configs.items():
            what = f"run {config_id} of {dataset}"
            config, log = _part(entry, "config", what), _part(entry, "log", what)
            for name in set(config) - set(SPACE.by_name):
                fixed.setdefault(name, set()).add(str(config[name]))
            run, beyond = _run(dataset, make(_values(config, what), what), log, what)
            clipped += beyond
            runs.append(run)
        results = _part(next(iter(configs.values())), "results", f"the first run of {dataset}")
        rows.append(_dataset(dataset, results))
        features[dataset] = {
            name: float(results[tag])
            for name, tag in (("n_classes", "classes"), ("n_samples", "instances"), ("n_features", "features"))
            if tag in results
        }
    return Source(
        name="lcbench",
        epochs=EPOCHS,
        space=SPACE,
        datasets=rows,
        runs=runs,
        files={path.name: path},
        notes=_notes(fixed, clipped),
        metafeatures=features,
    )


def _part(entry: Any, name: str, what: str) -> Mapping[str, Any]:
    part = entry.get(name) if isinstance(entry, Mapping) else None
    if not isinstance(part, Mapping):
        raise InvalidData(f"{what} has no {name!r}: expected an object with config, log and results")
    return part


def _values(config: Mapping[str, Any], what: str) -> dict[str, Any]:
    try:
        return {name: float(config[name]) for name in SPACE.by_name}
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidData(f"{what} needs a number for each of {', '.join(SPACE.by_name)}: {error!r}") from error


def _run(dataset: str, config: Any, log: Mapping[str, Any], what: str) -> tuple[Run, int]:
    """The trial of one log, and how many of its losses were cut to the largest that the metric can have."""
    for tag in _NEEDED:
        if tag not in log:
            raise InvalidData(f"{what} has no log of {tag}")
    epoch, clock = _array(log, "epoch", what), _array(log, "time", what)
    trained = (epoch >= 1) & (epoch <= EPOCHS)
    n = int(trained.sum())
    if n == 0 or not np.array_equal(epoch[trained], np.arange(1, n + 1)) or len(clock) != len(epoch):
        raise InvalidData(f"{what} must have the epochs from 0 or 1 on, each once and in order, with a time each")
    columns: dict[str, Floats] = {}
    for column, (tag, factor) in _TAGS.items():
        if tag in log:
            values = _array(log, tag, what)
            if len(values) != len(epoch):
                raise InvalidData(f"{what} has {len(values)} values of {tag}, expected {len(epoch)}")
            columns[column] = values[trained] * factor
    beyond = 0
    for column in ("val_loss", "test_loss"):
        if column in columns:
            beyond += int((columns[column] > METRICS["loss"].upper).sum())
            columns[column] = np.minimum(columns[column], METRICS["loss"].upper)
    columns["train_seconds"] = np.diff(clock, prepend=clock[0] if epoch[0] == 0 else 0.0)[trained]
    status = Status.COMPLETED if n == EPOCHS else Status.EARLY_STOPPED
    return Run(dataset, config, status, EPOCHS, columns, n, None, float(clock[trained][-1])), beyond


def _array(log: Mapping[str, Any], tag: str, what: str) -> Floats:
    try:
        return np.array(log[tag], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidData(f"{what}: {tag} must be a list of numbers ({error})") from error


def _dataset(name: str, results: Mapping[str, Any]) -> dict[str, Any]:
    n_classes = results.get("classes")
    known = {} if n_classes is None else {"task": "binary" if n_classes == 2 else "multiclass", "n_classes": n_classes}
    task = f" (OpenML task {results['OpenML_task_id']})" if "OpenML_task_id" in results else ""
    return {
        "dataset": name,
        "title": f"{name}{task}",
        **known,
        "n_samples": results.get("instances"),
        "family": name,
        "licence": "Curves: Apache-2.0. Data: as on OpenML.",
        "source": "https://github.com/automl/LCBench",
        "citation": "Zimmer, Lindauer, Hutter, Auto-PyTorch Tabular, TPAMI 2021.",
    }


def _notes(fixed: Mapping[str, set[str]], clipped: int) -> list[str]:
    constant = sorted(name for name, values in fixed.items() if len(values) == 1)
    varying = sorted(name for name, values in fixed.items() if len(values) > 1)
    notes = [
        "The record before training and those after epoch 50 were dropped; time, which counts from the start, became "
        "seconds of each epoch.",
        "Accuracy was in percent and is a share here; the gradient statistics were dropped.",
        "Every dataset is its own family; there are no images and no backbone.",
    ]
    if constant:
        notes.append(f"Dropped from the configs, as they are the same in all: {', '.join(constant)}.")
    if varying:
        notes.append(f"Dropped from the configs, as they are not part of the published space: {', '.join(varying)}.")
    if clipped:
        notes.append(
            f"{counted(clipped, 'value')} of the loss above {METRICS['loss'].upper:.4g}, the most that it can be with "
            "probabilities clipped at 1e-7, were cut to that."
        )
    return notes
