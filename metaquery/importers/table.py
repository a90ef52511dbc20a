"""Any long table of learning curves, one row per run and epoch, through a mapping of its columns.

The path is that of the mapping, a YAML file that follows `schemas/import_mapping.schema.json`. A run is what has the
same dataset, fold, seed and hyperparameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metaquery.errors import InvalidData, InvalidInput
from metaquery.importers._source import Configs, Floats, Run, Source, counted, file_in, need_columns, read_table
from metaquery.metrics import METRICS
from metaquery.schema.documents import check_document
from metaquery.schema.tables import table as table_schema
from metaquery.space import Condition, Hyperparameter, Kind, SearchSpace, Value
from metaquery.types import SOUND, Status

if TYPE_CHECKING:
    import polars as pl

_CURVE_COLUMNS = ("learning_rate", "train_loss", "train_seconds", "eval_seconds")


def read(path: Path) -> Source:
    """The source of the mapping `path`.

    Raises InvalidInput where it is no mapping, InvalidData where its file does not fit it.
    """
    mapping = _mapping(path)
    file = file_in(path.parent, mapping["file"])
    data = read_table(file)
    columns, hyperparameters = mapping["columns"], mapping["hyperparameters"]
    metrics = {
        name: (item, 1.0) if isinstance(item, str) else (item["column"], float(item.get("scale", 1.0)))
        for name, item in mapping["metrics"].items()
    }
    source_of = {name: item.get("column", name) for name, item in hyperparameters.items()}
    need_columns(data, [*columns.values(), *(column for column, _ in metrics.values()), *source_of.values()], file)
    data, notes = _trained(data, columns["epoch"], mapping.get("first_epoch", 1), file)
    space = SearchSpace(
        mapping["name"],
        tuple(_hyperparameter(name, data[source_of[name]], item) for name, item in hyperparameters.items()),
    )
    identity = [columns[name] for name in ("dataset", "fold", "seed") if name in columns] + list(source_of.values())
    groups = [
        group.sort(columns["epoch"]) for group in data.partition_by(list(dict.fromkeys(identity)), maintain_order=True)
    ]
    epochs = mapping.get("epochs", max(map(len, groups)))
    make = Configs(space)
    runs = [_run(group, mapping, metrics, source_of, make, epochs) for group in groups]
    datasets = list(dict.fromkeys(run.dataset for run in runs))
    described = mapping.get("datasets", {})
    unknown = [name for name in described if name not in datasets]
    if unknown:
        raise InvalidInput(f"{path} describes datasets that are not in {file.name}: {', '.join(unknown)}")
    if "status" not in columns:
        short = sum(run.epochs_run < epochs for run in runs)
        notes.append(
            f"The source has no status: {counted(short, 'run')} of fewer than {epochs} epochs are early_stopped."
        )
    return Source(
        name=mapping["name"],
        version=mapping.get("version", "1.0"),
        epochs=epochs,
        space=space,
        datasets=[_dataset(name, described.get(name, {})) for name in datasets],
        runs=runs,
        files={path.name: path, file.name: file},
        notes=[*notes, *_dropped(data, [*identity, *columns.values(), *(column for column, _ in metrics.values())])],
        cost_source="measured" if {"train_seconds", "elapsed_seconds"} & columns.keys() else None,
        metafeatures={name: item["metafeatures"] for name, item in described.items() if "metafeatures" in item},
    )


def _mapping(path: Path) -> dict[str, Any]:
    import yaml

    try:
        mapping = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidInput(f"{path} is not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(mapping, dict):
        raise InvalidInput(f"{path} must hold a mapping, see schemas/import_mapping.schema.json")
    check_document("import_mapping", mapping, what=str(path))
    columns = mapping["columns"]
    if ("dataset" in mapping) == ("dataset" in columns):
        raise InvalidInput(f"{path}: give either the name of the one dataset, or columns.dataset")
    if {"train_seconds", "elapsed_seconds"} <= columns.keys():
        raise InvalidInput(f"{path}: give either columns.train_seconds or columns.elapsed_seconds")
    return mapping


def _trained(data: pl.DataFrame, epoch: str, first: int, file: Path) -> tuple[pl.DataFrame, list[str]]:
    """The rows of trained epochs, which are counted from 1, and what was dropped."""
    import polars as pl

    if not data[epoch].dtype.is_integer() or data[epoch].null_count():
        raise InvalidData(f"{file}: column {epoch} must hold an integer in every row")
    kept = data.filter(pl.col(epoch) >= first).with_columns(pl.col(epoch) - (first - 1))
    if kept.is_empty():
        raise InvalidData(f"{file} has no row with {epoch} {first} or above")
    dropped = len(data) - len(kept)
    return kept, [f"{counted(dropped, 'row')} before the first trained epoch, {first}, were dropped."] * bool(dropped)


def _hyperparameter(name: str, column: pl.Series, item: Mapping[str, Any]) -> Hyperparameter:
    """One axis of the space, with the domain that the file shows."""
    condition = (
        Condition(item["condition"]["parent"], tuple(item["condition"]["values"])) if "condition" in item else None
    )
    values = sorted({_plain(value) for value in column.drop_nulls().to_list()})
    if not values:
        raise InvalidData(f"hyperparameter {name}: column {column.name} is empty")
    if column.null_count() and condition is None:
        raise InvalidData(
            f"hyperparameter {name}: column {column.name} has empty cells, so it needs a condition that says where it "
            "is active"
        )
    text = isinstance(values[0], str)
    if text or "kind" in item or len(values) == 1:
        kind: Kind = "categorical" if text else item.get("kind", "ordinal")
        default = item.get("default", values[0])
        return Hyperparameter(name, kind, default, choices=tuple(values), condition=condition)
    low, high = float(values[0]), float(values[-1])
    log = bool(item.get("log", False))
    if log and low <= 0:
        raise InvalidData(f"hyperparameter {name}: a logarithmic range needs numbers above 0, got {low:g}")
    whole = column.dtype.is_integer()
    middle = float(np.sqrt(low * high)) if log else (low + high) / 2
    default = item.get("default", round(middle) if whole else middle)
    return Hyperparameter(
        name, "integer" if whole else "float", default, low=low, high=high, log=log, condition=condition
    )


def _plain(value: Any) -> Value:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str | int | float) else str(value)


def _run(
    group: pl.DataFrame,
    mapping: Mapping[str, Any],
    metrics: Mapping[str, tuple[str, float]],
    source_of: Mapping[str, str],
    make: Configs,
    epochs: int,
) -> Run:
    columns, first = mapping["columns"], group.row(0, named=True)
    dataset = str(first[columns["dataset"]]) if "dataset" in columns else mapping["dataset"]
    fold, seed = (int(first[columns[name]]) if name in columns else 0 for name in ("fold", "seed"))
    values = {name: _plain(first[column]) for name, column in source_of.items() if first[column] is not None}
    what = f"the run of {dataset}, fold {fold}, seed {seed} with {values}"
    n = len(group)
    if group[columns["epoch"]].to_list() != list(range(1, n + 1)):
        raise InvalidData(
            f"{what} must have the epochs 1 to {n}, each once, got {n} rows: map columns.seed or columns.fold where "
            "several runs share their hyperparameters, or give first_epoch"
        )
    curves = {name: _floats(group, columns[name], what) for name in _CURVE_COLUMNS if name in columns}
    if "elapsed_seconds" in columns:
        curves["train_seconds"] = np.diff(_floats(group, columns["elapsed_seconds"], what), prepend=0.0)
    for name, (column, scale) in metrics.items():
        curves[name] = _floats(group, column, what) * scale
        if name.endswith("_loss"):
            curves[name] = np.minimum(curves[name], METRICS["loss"].upper)
    status = Status.COMPLETED if n >= epochs else Status.EARLY_STOPPED
    if "status" in columns:
        text = str(first[columns["status"]])
        if text not in list(Status):
            raise InvalidData(f"{what} has the status {text}: expected one of {', '.join(Status)}")
        status = Status(text)
    error = first[columns["error"]] if "error" in columns else None
    if status not in SOUND and error is None:
        error = f"{status} in the source"
    total = first[columns["total_seconds"]] if "total_seconds" in columns else None
    if total is None and "train_seconds" in curves:
        total = sum(np.nansum(curves[name]) for name in ("train_seconds", "eval_seconds") if name in curves)
    return Run(
        dataset,
        make(values, what),
        status,
        epochs,
        curves,
        n,
        None if error is None else str(error),
        None if total is None else float(total),
        fold,
        seed,
    )


def _floats(group: pl.DataFrame, column: str, what: str) -> Floats:
    import polars as pl

    if not group[column].dtype.is_numeric():
        raise InvalidData(f"{what}: column {column} must hold numbers, got {group[column].dtype}")
    return group[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _dataset(name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    columns = [column.name for column in table_schema("datasets").columns]
    strange = [key for key in known if key not in (*columns, "metafeatures")]
    if strange:
        raise InvalidInput(
            f"dataset {name} has unknown columns {', '.join(strange)}: expected some of {', '.join(columns)}"
        )
    return {"title": name, "family": name, **{key: known[key] for key in columns if key in known}, "dataset": name}


def _dropped(data: pl.DataFrame, used: list[str]) -> list[str]:
    unused = [column for column in data.columns if column not in used]
    return [f"Columns that the mapping does not name were dropped: {', '.join(unused)}."] * bool(unused)
