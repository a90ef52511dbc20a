"""MedQuickTune's portfolio: `config.csv`, `cost.csv`, `curve.csv` and `meta.csv`, whose rows belong together by their
first column.

The script that made these files fills a crashed run with zeros, and a run that stopped early with its last value; rows
of one dataset end in zeros, for epochs that were never planned. All of that is undone here. The metric is not in the
files: it was a setting of each experiment, and AUC its default. The ranges of the hyperparameters are those of the
project's own pipeline spaces.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metaquery.errors import InvalidData
from metaquery.importers._source import Configs, Floats, Run, Source, counted, file_in, need_columns, read_table
from metaquery.space import Condition, Hyperparameter, SearchSpace, Value
from metaquery.types import Status

if TYPE_CHECKING:
    import polars as pl

_TYPES = {"resnet": "resnet_type", "densenet": "densenet_type"}  # the column that names the backbone, by model
_RESNETS = ("resnet18", "resnet34", "resnet50")
_DENSENETS = ("densenet121", "densenet169", "densenet201")
_RESNET, _DENSENET = Condition("backbone", _RESNETS), Condition("backbone", _DENSENETS)
_FAMILIES = {"hcc": "liver"}  # both are liver tumours on MRI, and may share patients

SPACE = SearchSpace(
    "medquicktune",
    (
        Hyperparameter("backbone", "categorical", "resnet18", choices=_RESNETS + _DENSENETS),
        Hyperparameter("learning_rate", "float", 1e-4, low=1e-5, high=1e-2, log=True),
        Hyperparameter("optimizer_type", "categorical", "adam", choices=("adam", "adamw", "sgd")),
        Hyperparameter("weight_decay", "float", 1e-6, low=1e-6, high=1e-3, log=True),
        Hyperparameter("scheduler_type", "categorical", "warmup", choices=("cosine_warmup", "warmup")),
        Hyperparameter("warmup_epochs", "integer", 0, low=0, high=5),
        Hyperparameter("batch_size", "integer", 1, low=1, high=4),
        Hyperparameter("gradient_accumulation_steps", "integer", 1, low=1, high=2),
        Hyperparameter("label_smoothing", "float", 0.0, low=0.0, high=0.2),
        Hyperparameter("mixup_alpha", "float", 0.0, low=0.0, high=0.4),
        Hyperparameter("act", "categorical", "relu", choices=("gelu", "leakyrelu", "relu")),
        Hyperparameter("conv1_t_size", "integer", 7, low=3, high=7, condition=_RESNET),
        Hyperparameter("conv1_t_stride", "integer", 1, low=1, high=2, condition=_RESNET),
        Hyperparameter("no_max_pool", "categorical", "no", choices=("no", "yes"), condition=_RESNET),
        Hyperparameter("widen_factor", "float", 1.0, low=1.0, high=2.0, condition=_RESNET),
        Hyperparameter("init_features", "integer", 64, low=16, high=64, condition=_DENSENET),
        Hyperparameter("growth_rate", "integer", 32, low=12, high=32, condition=_DENSENET),
        Hyperparameter("bn_size", "integer", 4, low=1, high=4, condition=_DENSENET),
        Hyperparameter("dropout_prob", "float", 0.0, low=0.0, high=0.3, condition=_DENSENET),
        Hyperparameter("remove_last_block", "categorical", "no", choices=("no", "yes"), condition=_DENSENET),
    ),
)
_META = ("num_classes", "input_channels", "input_size_h", "input_size_w", "input_size_d", "total_num_samples")


def read(path: Path) -> Source:
    """The source in the directory `path`; raises InvalidData where the four files do not fit together."""
    files = {f"{name}.csv": file_in(path, f"{name}.csv") for name in ("config", "cost", "curve", "meta")}
    config, cost, curve, meta = (read_table(file) for file in files.values())
    own = [name for name in SPACE.by_name if name != "backbone"]
    need_columns(config, ["dataset", "model", *_TYPES.values(), *own], files["config.csv"])
    need_columns(cost, ["cost"], files["cost.csv"])
    need_columns(meta, ["dataset", "modality", *_META], files["meta.csv"])
    ids = config[config.columns[0]].to_list()
    for name, table in (("cost.csv", cost), ("curve.csv", curve), ("meta.csv", meta)):
        if table[table.columns[0]].to_list() != ids:
            raise InvalidData(f"the rows of {files[name]} are not those of config.csv, by their first column")
    if config["dataset"].to_list() != meta["dataset"].to_list():
        raise InvalidData("meta.csv and config.csv name different datasets in the same row")
    percent = curve.select(curve.columns[1:]).to_numpy().astype(np.float64)
    if not np.isfinite(percent).all() or not np.isfinite(cost["cost"].to_numpy()).all():
        raise InvalidData("curve.csv and cost.csv must hold a number in every cell")
    names = config["dataset"].to_list()
    planned = _planned(names, percent)
    make = Configs(SPACE)
    runs = [
        _run(row, make(_values(row), f"row {ids[i]}"), percent[i, : planned[row["dataset"]]], seconds)
        for i, (row, seconds) in enumerate(zip(config.iter_rows(named=True), cost["cost"].to_list(), strict=True))
    ]
    same_count = meta["total_num_samples"].n_unique() == 1 and len(planned) > 1
    datasets = _datasets(meta)
    return Source(
        name="medquicktune-portfolio",
        epochs=percent.shape[1],
        space=SPACE,
        datasets=[_dataset(row, known_samples=not same_count) for row in datasets],
        runs=runs,
        files=files,
        notes=_notes(runs, planned, percent.shape[1], same_count),
        cost_source="spread",
        backbones=[_backbone(str(name)) for name in SPACE["backbone"].choices],
        metafeatures={row["dataset"]: _metafeatures(row) for row in datasets},
    )


def _planned(names: list[str], percent: Floats) -> dict[str, int]:
    """The epochs that the runs of each dataset were meant to have: all but those that are zero in every one of them."""
    rows = {name: percent[[n == name for n in names]] for name in dict.fromkeys(names)}
    used = {name: np.flatnonzero(values.any(axis=0)) for name, values in rows.items()}
    return {name: int(epochs[-1]) + 1 if len(epochs) else percent.shape[1] for name, epochs in used.items()}


def _values(row: dict[str, Any]) -> dict[str, Value]:
    """The active hyperparameters of one row of config.csv."""
    backbone = row.get(_TYPES.get(str(row["model"]), ""))
    values = {name: row[name] for name in SPACE.by_name if name != "backbone" and row[name] is not None}
    for name in ("no_max_pool", "remove_last_block"):
        if name in values:
            values[name] = "yes" if str(values[name]).lower() == "true" else "no"
    return {"backbone": "none" if backbone is None else backbone, **values}


def _run(row: dict[str, Any], config: Any, percent: Floats, seconds: float) -> Run:
    planned = len(percent)
    if not percent.any():
        error = "all values are zero in the source, which is how it stores a run that crashed"
        return Run(row["dataset"], config, Status.FAILED, planned, {}, 0, error, seconds)
    kept = percent[: int(np.flatnonzero(percent)[-1]) + 1]
    changes = np.flatnonzero(np.diff(kept))
    epochs = int(changes[-1]) + 2 if len(changes) else 1
    columns = {"val_auc": kept[:epochs] / 100.0, "train_seconds": np.full(epochs, seconds / epochs)}
    status = Status.COMPLETED if epochs == planned else Status.EARLY_STOPPED
    return Run(row["dataset"], config, status, planned, columns, epochs, None, seconds)


def _datasets(meta: pl.DataFrame) -> list[dict[str, Any]]:
    """One row of meta.csv for each dataset; they are the same in all of its rows."""
    distinct = meta.drop(meta.columns[0]).unique(maintain_order=True)
    if distinct["dataset"].n_unique() < len(distinct):
        raise InvalidData("meta.csv describes a dataset differently in different rows")
    return distinct.to_dicts()


def _dataset(row: dict[str, Any], *, known_samples: bool) -> dict[str, Any]:
    return {
        "dataset": row["dataset"],
        "title": f"WORC {row['dataset']}",
        "modality": row["modality"],
        "oncology": "yes",
        "task": "binary" if row["num_classes"] == 2 else "multiclass",
        "n_classes": row["num_classes"],
        "n_dims": 3,
        "channels": row["input_channels"],
        "shape": [row["input_size_d"], row["input_size_h"], row["input_size_w"]],
        "n_samples": row["total_num_samples"] if known_samples else None,
        "family": _FAMILIES.get(row["dataset"], row["dataset"]),
        "licence": "Curves: MIT. Images: not stated.",
        "source": "https://github.com/AnonymousMedQuickTune/AnonymousMedQuickTune",
        "citation": "MedQuickTune: Portfolio-Based Meta-Learning for Efficient Hyperparameter Optimization in 3D "
        "Oncological Imaging (anonymous).",
    }


def _metafeatures(row: dict[str, Any]) -> dict[str, float]:
    names = {
        "n_classes": "num_classes",
        "channels": "input_channels",
        "depth": "input_size_d",
        "height": "input_size_h",
        "width": "input_size_w",
    }
    return {name: float(row[column]) for name, column in names.items()}


def _backbone(name: str) -> dict[str, Any]:
    return {"backbone": name, "family": name.rstrip("0123456789"), "n_dims": 3, "source": "MONAI"}


def _notes(runs: list[Run], planned: dict[str, int], width: int, same_count: bool) -> list[str]:
    failed = sum(run.status is Status.FAILED for run in runs)
    cut = [run for run in runs if run.status is Status.EARLY_STOPPED]
    padding = sum(run.epochs_planned - run.epochs_run for run in cut)
    notes = [
        f"{counted(failed, 'row')} of zeros became failed trials without an epoch.",
        f"Constant tails were cut, {counted(padding, 'epoch')} of {counted(len(cut), 'run')}, which are early_stopped.",
        "The source does not name its metric: the default of its experiments, AUC, is assumed. Values are the mean "
        "over inner folds, in percent there and a share here.",
        "One time is given for each run: it is spread evenly over its epochs (cost_source spread).",
        "The model became the backbone (resnet_type, densenet_type); empty cells are inactive hyperparameters.",
        "Liver and hcc, which may share patients, are one family; the source does not say.",
    ]
    notes += [
        f"Runs of {name} have {epochs} epochs: {width - epochs} zeros at the end of each were dropped."
        for name, epochs in planned.items()
        if epochs < width
    ]
    if same_count:
        notes.append("The number of samples is the same for every dataset, so not a count: n_samples is null.")
    return notes
