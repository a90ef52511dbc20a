"""Quick-Tune's meta-dataset (Pineda Arango et al., ICLR 2024): a level's `perf.json`, `cost.json`, `table.csv` and
`descriptors.json`, as they are distributed.

What was found in the complete level "extended", and holds for the tables of the other two levels as far as they tell:

- `perf.json` is validation accuracy in percent, `cost.json` the seconds of each epoch (not since the start: no run's
  values only grow), training and validation together.
- Each hyperparameter that the source gives a placeholder wherever another has other values is inactive there:
  `_CONDITIONS`, checked on every row. `warmup_lr` and `mixup_prob` have no placeholder and so no condition.
- No status is given. In the level extended, what runs that end before epoch 50 had used, with one more epoch like their
  last, is either more than 14 hours (for 531 of them, from 50,788 s on; none of all runs used more than 57,433 s, just
  short of 16 hours) or clearly less (for the others, but for one at 49,600 s): the first ran into a time limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metaquery.errors import InvalidData
from metaquery.importers._source import Configs, Run, Source, counted, file_in, need_columns, read_json, read_table
from metaquery.space import Condition, Hyperparameter, SearchSpace, Value
from metaquery.types import Status

if TYPE_CHECKING:
    import polars as pl

EPOCHS = 50
TIME_LIMITS = {"extended": 14 * 3600.0}  # seconds, by level; see above

_SEPARATORS = (":", "__")  # of one-hot columns: cat:opt:adam or cat__opt__adam
_FLAGS = ("amp", "linear_probing", "stoch_norm", "random_augment", "trivial_augment")  # 0 or 1
_NONE_IS_MINUS_ONE = ("clip_grad", "layer_decay")
_DECAYING = ("multistep", "step")
_ADAMS = ("adam", "adamp", "adamw")
# Child: parent, its values where the child is active, and the child's placeholder elsewhere. Where a level has no such
# parent, the next line for that child counts.
_CONDITIONS: tuple[tuple[str, str, tuple[Value, ...], Value], ...] = (
    ("momentum", "opt", ("momentum",), 0.9),
    ("opt_betas", "opt", _ADAMS, "none"),
    ("decay_epochs", "sched", _DECAYING, 90),
    ("decay_rate", "sched", _DECAYING, 0.1),
    ("patience_epochs", "sched", ("plateau",), 10),
    ("auto_augment", "data_augmentation", ("auto_augment",), "none"),
    ("ra_magnitude", "data_augmentation", ("random_augment",), 8),
    ("ra_num_ops", "data_augmentation", ("random_augment",), 2),
    ("ra_magnitude", "random_augment", (1,), 8),
    ("ra_num_ops", "random_augment", (1,), 2),
)
_FIRST = ("backbone", "opt", "sched", "data_augmentation", "random_augment")  # parents stand before their children


def read(path: Path) -> Source:
    """The source in the directory `path`; raises InvalidData where the four files do not fit together."""
    files = {name: file_in(path, name) for name in ("perf.json", "cost.json", "table.csv", "descriptors.json")}
    performance, costs, descriptors = (read_json(files[name]) for name in files if name.endswith(".json"))
    level = str(performance.pop("info", {}).get("version", "unknown"))
    costs.pop("info", None)
    decoded = _decoded(read_table(files["table.csv"]), files["table.csv"])
    conditions = _conditions(decoded)
    space = _space(decoded, conditions, level)
    ids = decoded.pop("config_id")
    row_of = {str(config_id): row for row, config_id in enumerate(ids)}
    make = Configs(space)
    runs = []
    for dataset, curves in performance.items():
        for config_id, values in curves.items():
            what = f"run {config_id} of {dataset}"
            if config_id not in row_of:
                raise InvalidData(f"{what} is in perf.json but not in table.csv")
            row = {name: column[row_of[config_id]] for name, column in decoded.items()}
            seconds = costs.get(dataset, {}).get(config_id)
            if seconds is None or len(seconds) != len(values):
                raise InvalidData(f"{what} has {len(values)} epochs in perf.json, cost.json must have as many seconds")
            active = {name: value for name, value in row.items() if _is_active(name, row, conditions, what)}
            runs.append(_run(dataset, make(active, what), values, seconds, level))
    missing = [dataset for dataset in performance if dataset not in descriptors]
    if missing:
        raise InvalidData(f"descriptors.json lacks {', '.join(missing)}")
    unused = len(row_of) - len(runs)
    return Source(
        name=f"quicktune-{level}",
        epochs=EPOCHS,
        space=space,
        datasets=[_dataset(name, descriptors[name]) for name in performance],
        runs=runs,
        files=files,
        notes=_notes(runs, level, unused),
        backbones=[_backbone(str(name)) for name in space["backbone"].choices],
        metafeatures={name: _metafeatures(descriptors[name]) for name in performance},
    )


def _decoded(table: pl.DataFrame, path: Path) -> dict[str, list[Any]]:
    """The columns of the table with one-hot groups put together, and values in their own types."""
    need_columns(table, ["batch_size", "lr"], path)
    groups: dict[str, dict[str, str]] = {}
    plain: dict[str, list[Any]] = {"config_id": table[table.columns[0]].to_list()}
    for column in table.columns[1:]:
        separator = next((s for s in _SEPARATORS if column.startswith(f"cat{s}")), None)
        if separator is None:
            plain[column] = _numbers(column, table[column].to_list())
        else:
            _, name, value = column.split(separator, maxsplit=2)
            groups.setdefault(name, {})[column] = "none" if value == "None" else value
    for name, columns in groups.items():
        flags = table.select(list(columns)).to_numpy()
        if not ((flags == 0) | (flags == 1)).all() or not (flags.sum(axis=1) == 1).all():
            raise InvalidData(f"{path}: the columns of {name} are not one-hot in every row")
        values = list(columns.values())
        plain["backbone" if name == "model" else name] = [values[i] for i in flags.argmax(axis=1)]
    if "backbone" not in plain:
        raise InvalidData(f"{path} has no one-hot columns of the model, such as cat:model:NAME")
    first = [name for name in _FIRST if name in plain]
    return {name: plain[name] for name in [*first, *(n for n in plain if n not in first)]}


def _numbers(name: str, values: list[Any]) -> list[Any]:
    """A plain column: 0 and 1 for flags, none for -1 where that is meant, integers where all values are whole."""
    if name in _NONE_IS_MINUS_ONE:
        return ["none" if value == -1 else f"{value:g}" for value in values]
    if name in _FLAGS or all(float(value).is_integer() for value in values):
        return [int(value) for value in values]
    return [float(value) for value in values]


def _conditions(decoded: Mapping[str, Any]) -> dict[str, tuple[Condition, Value]]:
    """The condition and the placeholder of every hyperparameter that has them in this level."""
    found: dict[str, tuple[Condition, Value]] = {}
    for child, parent, values, placeholder in _CONDITIONS:
        if child in decoded and parent in decoded and child not in found:
            present = tuple(value for value in values if value in decoded[parent])
            found[child] = Condition(parent, present), placeholder
    return found


def _space(
    decoded: Mapping[str, list[Any]], conditions: Mapping[str, tuple[Condition, Value]], level: str
) -> SearchSpace:
    """The conditional space of all values that are active somewhere; the middle of a grid is the default."""
    hyperparameters = []
    for name, column in decoded.items():
        if name == "config_id":
            continue
        condition = conditions[name][0] if name in conditions else None
        values = set(column)
        if condition is not None:
            parents = decoded[condition.parent]
            values = {value for value, parent in zip(column, parents, strict=True) if parent in condition.values}
        if not values:
            continue
        choices = tuple(sorted(values))
        categorical = isinstance(choices[0], str) or name in _FLAGS
        hyperparameters.append(
            Hyperparameter(
                name,
                "categorical" if categorical else "ordinal",
                choices[0] if categorical else choices[len(choices) // 2],
                choices=choices,
                condition=condition,
            )
        )
    return SearchSpace(f"quicktune-{level}", tuple(hyperparameters))


def _is_active(name: str, row: Mapping[str, Any], conditions: Mapping[str, tuple[Condition, Value]], what: str) -> bool:
    if name not in conditions:
        return True
    condition, placeholder = conditions[name]
    if row[condition.parent] in condition.values:
        return True
    if row[name] != placeholder:
        raise InvalidData(
            f"{what} has {name} {row[name]} though {condition.parent} is {row[condition.parent]}: expected the "
            f"placeholder {placeholder}"
        )
    return False


def _run(dataset: str, config: Any, percent: list[float], seconds: list[float], level: str) -> Run:
    status, error = Status.COMPLETED, None
    if len(percent) < EPOCHS:
        status = Status.EARLY_STOPPED
        limit = TIME_LIMITS.get(level)
        if limit is not None and sum(seconds) + seconds[-1] >= limit:
            status = Status.TIMED_OUT
            error = f"time limit: one more epoch would have ended after {limit:,.0f} s"
    accuracy = np.array(percent, np.float64) / 100.0
    columns = {"val_accuracy": accuracy, "train_seconds": np.array(seconds, np.float64)}
    return Run(dataset, config, status, EPOCHS, columns, len(percent), error, float(sum(seconds)))


def _dataset(name: str, descriptor: list[int]) -> dict[str, Any]:
    _, n_classes, resolution, channels = descriptor
    return {
        "dataset": name,
        "title": f"Meta-Album {name}",
        "task": "binary" if n_classes == 2 else "multiclass",
        "n_classes": n_classes,
        "n_dims": 2,
        "channels": channels,
        "shape": [resolution, resolution],
        "family": name,
        "licence": "Curves: BSD-3-Clause. Images: as each dataset of Meta-Album, not stated here.",
        "source": "https://github.com/rapanti/quicktune",
        "citation": "Pineda Arango et al., Quick-Tune, ICLR 2024; Ullah et al., Meta-Album, NeurIPS 2022.",
    }


def _metafeatures(descriptor: list[int]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in zip(("n_train", "n_classes", "resolution", "channels"), descriptor, strict=True)
    }


def _backbone(name: str) -> dict[str, Any]:
    return {"backbone": name, "family": name.split("_", maxsplit=1)[0], "n_dims": 2, "source": "timm"}


def _notes(runs: list[Run], level: str, unused: int) -> list[str]:
    notes = [
        "Accuracy was in percent and is a share here; an epoch's seconds, training and validation together, are in "
        "train_seconds.",
        "One-hot columns became hyperparameters, the model the backbone; a placeholder where another hyperparameter "
        "makes one meaningless became inactive (null): "
        + ", ".join(dict.fromkeys(child for child, *_ in _CONDITIONS))
        + ". A value of -1 of "
        + " and ".join(_NONE_IS_MINUS_ONE)
        + " became none.",
        f"Status is not in the source: completed means {EPOCHS} epochs, early_stopped all shorter runs but those of "
        + (
            f"timed_out, whose seconds with one more epoch like their last make {TIME_LIMITS[level]:,.0f} or more."
            if level in TIME_LIMITS
            else "timed_out, of which none can be told in this level."
        ),
        "Every dataset is its own family: the source does not say which share images.",
        "The descriptors' count is of training samples (metafeature n_train), so n_samples is null.",
    ]
    probing = [run for run in runs if run.config.get("linear_probing") == 1]
    if probing and all(run.epochs_run == 1 for run in probing):
        notes.append(f"All {counted(len(probing), 'run')} with linear_probing end after epoch 1, whatever their cost.")
    if unused:
        notes.append(f"{counted(unused, 'config')} of table.csv without a curve were dropped.")
    return notes
