"""A small sealed corpus with plausible curves, written by the real writer: what tests read where they need a corpus.

Every stored metric is computed from the probabilities that are stored beside it; nothing is random but by `seed`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaquery.metrics import compute_all
from metaquery.schema import TABLE_NAMES
from metaquery.schema.predictions import SPLITS, TrialPredictions, checkpoint_epochs
from metaquery.schema.tables import from_rows, schema_of
from metaquery.schema.writer import write_corpus
from metaquery.space import Condition, Config, Hyperparameter, SearchSpace, content_id
from metaquery.types import EPOCHLESS_FAMILY, MAX_EPOCHS, Split

BACKBONES = {
    2: ("tiny.scratch", "small.scratch", "small.imagenet"),
    3: ("tiny3d.scratch", "small3d.scratch", "small3d.medicalnet"),
}


@dataclass(frozen=True)
class DatasetSpec:
    """What the factory needs to know to make up a dataset."""

    n_dims: int
    n_classes: int
    family: str
    modality: str
    body_part: str
    n_train: int
    n_val: int
    n_test: int
    ease: float  # how fast and how far models learn it
    best_log_rate: float  # logarithm (base 10) of the learning rate that suits it


DATASETS = {
    "alpha": DatasetSpec(2, 2, "family_one", "CT", "lung", 60, 30, 32, 1.0, -2.5),
    "beta": DatasetSpec(3, 3, "family_two", "MRI", "brain", 48, 27, 30, 0.6, -3.0),
    "gamma": DatasetSpec(2, 3, "family_one", "CT", "lung", 54, 30, 30, 0.8, -2.2),  # shares its family with alpha
    "delta": DatasetSpec(2, 2, "family_three", "X-ray", "chest", 60, 32, 28, 1.4, -2.8),
    "epsilon": DatasetSpec(2, 2, "family_four", "dermatoscopy", "skin", 60, 30, 30, 0.9, -2.0),
}


def make_space() -> SearchSpace:
    """The conditional space of the factory's corpora: its grid has 9 configs per backbone."""
    backbones = BACKBONES[2] + BACKBONES[3]
    return SearchSpace(
        "factory",
        (
            Hyperparameter("backbone", "categorical", "small.imagenet", choices=backbones, grid=backbones),
            Hyperparameter("learning_rate", "float", 1e-3, low=1e-5, high=1e-1, log=True, grid=(1e-4, 1e-3, 1e-2)),
            Hyperparameter("optimizer", "categorical", "adamw", choices=("sgd", "adamw"), grid=("sgd", "adamw")),
            Hyperparameter(
                "momentum",
                "float",
                0.9,
                low=0.0,
                high=0.99,
                grid=(0.5, 0.9),
                condition=Condition("optimizer", ("sgd",)),
            ),
            Hyperparameter("batch_size", "ordinal", 32, choices=(16, 32, 64)),
        ),
    )


def make_corpus(
    path: Path,
    *,
    datasets: tuple[str, ...] = ("alpha", "beta"),
    folds: int = 1,
    seed: int = 0,
    failures: bool = True,
    sobol: int = 4,
    repeats: int = 2,
    epochs: int = MAX_EPOCHS,
    name: str = "factory",
    version: str = "1.0",
) -> Path:
    """Write a sealed corpus to `path` and return it.

    Per dataset (of DATASETS) and fold: the complete core grid of the backbones of its dimensions (3 backbones x 3
    learning rates x (2 momenta with SGD, AdamW) = 27 configs) with seed 0, `repeats` of these again with seed 1, and
    `sobol` configs off the grid with seed 0. With `failures`, the first dataset's fold 0 has one grid trial each that
    is diverged after 5 epochs, out of memory before the first, timed out after 12, early stopped after 9, and failed
    after 2; every further dataset has one that diverged after its first epoch.
    """
    content = make_content(
        datasets=datasets, folds=folds, seed=seed, failures=failures, sobol=sobol, repeats=repeats, epochs=epochs
    )
    return write_corpus(
        path,
        name=name,
        version=version,
        builder_version="0.0.0",
        devices=["cpu"],
        provenance={"made_by": "tests/factory.py", "seed": seed},
        **content,
    )


def make_content(
    *,
    datasets: tuple[str, ...] = ("alpha", "beta"),
    folds: int = 1,
    seed: int = 0,
    failures: bool = True,
    sobol: int = 4,
    repeats: int = 2,
    epochs: int = MAX_EPOCHS,
) -> dict[str, Any]:
    """What `write_corpus` takes: epochs, space, tables and predictions of the corpus that `make_corpus` describes."""
    space = make_space()
    rows: dict[str, list[dict[str, Any]]] = {table_name: [] for table_name in TABLE_NAMES}
    rows["backbones"] = [_backbone_row(b, n_dims) for n_dims in (2, 3) for b in BACKBONES[n_dims]]
    configs: dict[str, dict[str, Any]] = {}
    predictions: list[TrialPredictions] = []
    for position, dataset in enumerate(datasets):
        spec = DATASETS[dataset]
        rows["datasets"].append(_dataset_row(dataset, spec))
        for fold in range(folds):
            labels = _add_splits(rows, dataset, spec, fold)
            _add_metafeatures(rows, dataset, spec, fold)
            ends = _failures(position) if failures and fold == 0 else {}
            for index, (config, design, trial_seed) in enumerate(_plan(space, spec, seed, sobol, repeats)):
                configs.setdefault(config.config_id, _config_row(space, config, design))
                trial = _Trial(dataset, spec, fold, config, trial_seed, labels, epochs, seed)
                status, ran = ends.get(index, ("completed", epochs))
                found = trial.add_to(rows, status, min(ran, epochs))
                if found is not None:
                    predictions.append(found)
    rows["configs"] = list(configs.values())
    tables = {n: from_rows(schema_of(n, space), rows[n], what=n) for n in TABLE_NAMES}
    return {"epochs": epochs, "space": space, "tables": tables, "predictions": predictions}


def without_epochs(content: dict[str, Any], backbone: str) -> dict[str, Any]:
    """`content` of `make_content` in which `backbone` has no epochs: of each of its trials the last record is left, and
    nothing of those that did not complete."""
    rows = {table_name: data.to_pylist() for table_name, data in content["tables"].items()}
    for row in rows["backbones"]:
        if row["backbone"] == backbone:
            row |= {"family": EPOCHLESS_FAMILY, "parameters": None, "flops": None}
    configs = {row["config_id"] for row in rows["configs"] if row["backbone"] == backbone}
    ends = {}
    for row in rows["trials"]:
        if row["config_id"] in configs:
            row["epochs_run"] = int(row["status"] == "completed")
            ends[row["trial_id"]] = row["epochs_planned"] if row["epochs_run"] else 0
    rows["curves"] = [row for row in rows["curves"] if row["epoch"] == ends.get(row["trial_id"], row["epoch"])]
    for row in rows["curves"]:
        if row["trial_id"] in ends:
            row["learning_rate"] = None
    predictions = []
    for trial in content["predictions"]:
        if trial.trial_id in ends:
            kept = checkpoint_epochs([0.5], [ends[trial.trial_id]])
            last = dict.fromkeys(kept, trial.probabilities["last"])
            predictions += [replace(trial, probabilities=last)] if ends[trial.trial_id] else []
        else:
            predictions.append(trial)
    space = content["space"]
    tables = {n: from_rows(schema_of(n, space), rows[n], what=n) for n in TABLE_NAMES}
    return {**content, "tables": tables, "predictions": predictions}


def _plan(
    space: SearchSpace, spec: DatasetSpec, seed: int, sobol: int, repeats: int
) -> Iterator[tuple[Config, str, int]]:
    """Config, design and trial seed of every trial of one dataset and fold."""
    own = space.restrict("backbone", BACKBONES[spec.n_dims])
    grid = own.grid()
    yield from ((config, "grid", 0) for config in grid)
    yield from ((config, "grid", 1) for config in grid[:repeats])
    rng = np.random.default_rng([seed, spec.n_dims])
    yield from ((own.sample(rng), "sobol", 0) for _ in range(sobol))


def _failures(position: int) -> dict[int, tuple[str, int]]:
    """Status and epochs run of the trials that do not complete, by their index in the plan."""
    if position > 0:
        return {7: ("diverged", 1)}
    return {
        7: ("diverged", 5),
        11: ("out_of_memory", 0),
        13: ("timed_out", 12),
        16: ("early_stopped", 9),
        20: ("failed", 2),
    }


_ERRORS = {
    "diverged": "loss is not finite",
    "out_of_memory": "CUDA out of memory: tried to allocate 2 GiB",
    "timed_out": "time limit of 60 s reached",
    "failed": "RuntimeError: a worker died",
}


@dataclass(frozen=True)
class _Trial:
    dataset: str
    spec: DatasetSpec
    fold: int
    config: Config
    seed: int
    labels: dict[str, NDArray[np.int64]]
    epochs: int
    corpus_seed: int

    @property
    def trial_id(self) -> str:
        return content_id([self.dataset, self.fold, self.config.config_id, self.seed, self.epochs, self.corpus_seed])

    def add_to(self, rows: dict[str, list[dict[str, Any]]], status: str, ran: int) -> TrialPredictions | None:
        """Append the trial's rows; its predictions, where an epoch ran."""
        curve, probabilities = self._run(ran)
        seconds = sum(row["train_seconds"] + row["eval_seconds"] for row in curve)
        rows["curves"] += curve
        rows["trials"].append(
            {
                "trial_id": self.trial_id,
                "dataset": self.dataset,
                "fold": self.fold,
                "config_id": self.config.config_id,
                "seed": self.seed,
                "status": status,
                "error": _ERRORS.get(status),
                "epochs_planned": self.epochs,
                "epochs_run": ran,
                "device": "cpu",
                "precision": "float32",
                "engine": "single",
                "fused_width": 1,
                "cost_source": "measured",
                "total_seconds": seconds + 1.5,
                "peak_memory_bytes": None,
                "train_flops": None,
                "eval_flops": None,
                "versions": "{}",
            }
        )
        kept = checkpoint_epochs([row["val_auc"] for row in curve])
        if not kept:
            return None
        by_checkpoint = {k: {split: probabilities[split][epoch - 1] for split in SPLITS} for k, epoch in kept.items()}
        return TrialPredictions(self.trial_id, self.dataset, self.fold, by_checkpoint)

    def _run(self, ran: int) -> tuple[list[dict[str, Any]], dict[Split, NDArray[np.float32]]]:
        rng = np.random.default_rng(int(self.trial_id, 16))
        backbone = str(self.config["backbone"])
        size = 2.0 if backbone.startswith("small") else 1.0
        miss = np.log10(float(self.config["learning_rate"])) - self.spec.best_log_rate
        skill = self.spec.ease * (0.6 + 0.3 * size + 0.6 * (not backbone.endswith("scratch"))) * np.exp(-0.35 * miss**2)
        skill *= 1.0 + 0.2 * float(self.config.get("momentum", 0.75))
        pace = 2.0 + 1.5 * size * (self.config["optimizer"] == "sgd")
        rise = 1.0 - np.exp(-np.arange(1, self.epochs + 1) / pace)
        probabilities: dict[Split, NDArray[np.float32]] = {}
        for split in SPLITS:
            truth = np.eye(self.spec.n_classes)[self.labels[split]]
            steady = rng.normal(size=truth.shape)
            jitter = rng.normal(size=(self.epochs, *truth.shape))
            logits = (rise[:, None, None] * (0.7 * skill * truth + 0.9 * steady) + 0.25 * jitter)[:ran]
            weights = np.exp(logits - logits.max(axis=2, keepdims=True, initial=0.0))
            probabilities[split] = (weights / weights.sum(axis=2, keepdims=True)).astype(np.float32)
        epoch_seconds = 0.02 * size * self.spec.n_train * self.spec.n_dims * rng.uniform(0.95, 1.05, size=ran)
        curve = []
        for epoch in range(1, ran + 1):
            row: dict[str, Any] = {
                "trial_id": self.trial_id,
                "epoch": epoch,
                "learning_rate": self.config["learning_rate"],
                "train_loss": float(np.log(self.spec.n_classes) * (1.0 - 0.8 * rise[epoch - 1] * min(skill, 1.0))),
                "train_seconds": float(epoch_seconds[epoch - 1]),
                "eval_seconds": float(0.3 * epoch_seconds[epoch - 1]),
            }
            for split in SPLITS:
                values = compute_all(self.labels[split], probabilities[split][epoch - 1])
                row |= {f"{split}_{metric}": value for metric, value in values.items()}
            curve.append(row)
        return curve, probabilities


def _add_splits(
    rows: dict[str, list[dict[str, Any]]], dataset: str, spec: DatasetSpec, fold: int
) -> dict[str, NDArray[np.int64]]:
    """Append the roles of every sample; the labels of each role, by ascending sample index."""
    sizes = {"train": spec.n_train, "val": spec.n_val, "test": spec.n_test}
    roles = [role for role, size in sizes.items() for _ in range(size // 2)]  # one for each group of two samples
    np.random.default_rng([fold, spec.n_train]).shuffle(roles)
    labels: dict[str, list[int]] = {role: [] for role in sizes}
    for sample in range(2 * len(roles)):
        group, role = sample // 2, roles[sample // 2]
        label = (group + sample) % spec.n_classes
        rows["splits"].append(
            {"dataset": dataset, "fold": fold, "sample": sample, "group": f"p{group}", "label": label, "role": role}
        )
        labels[role].append(label)
    return {role: np.array(values, np.int64) for role, values in labels.items()}


def _add_metafeatures(rows: dict[str, list[dict[str, Any]]], dataset: str, spec: DatasetSpec, fold: int) -> None:
    values = {
        "log_n_train": np.log(spec.n_train),
        "n_classes": spec.n_classes,
        "mean_intensity": 0.3 * spec.ease + fold,
    }
    rows["metafeatures"] += [
        {"dataset": dataset, "fold": fold, "name": name, "value": float(value), "seconds": 0.01}
        for name, value in values.items()
    ]


def _dataset_row(dataset: str, spec: DatasetSpec) -> dict[str, Any]:
    n_samples = 2 * (spec.n_train // 2 + spec.n_val // 2 + spec.n_test // 2)
    return {
        "dataset": dataset,
        "title": f"The {dataset} dataset",
        "modality": spec.modality,
        "body_part": spec.body_part,
        "oncology": "yes",
        "task": "binary" if spec.n_classes == 2 else "multiclass",
        "n_classes": spec.n_classes,
        "class_names": [f"class {c}" for c in range(spec.n_classes)],
        "n_dims": spec.n_dims,
        "channels": 1,
        "shape": [16] * spec.n_dims,
        "n_samples": n_samples,
        "n_groups": n_samples // 2,
        "split_kind": "grouped",
        "family": spec.family,
        "licence": "CC-BY-4.0",
        "source": f"https://example.org/{dataset}",
        "citation": f"Nobody, {dataset}, 2020.",
        "sha256": hashlib.sha256(dataset.encode()).hexdigest(),
    }


def _backbone_row(backbone: str, n_dims: int) -> dict[str, Any]:
    size = 1_000_000 if backbone.startswith("small") else 100_000
    pretrained = None if backbone.endswith("scratch") else backbone.split(".")[1]
    return {
        "backbone": backbone,
        "family": backbone.split(".", maxsplit=1)[0],
        "n_dims": n_dims,
        "parameters": size * (n_dims - 1),
        "flops": size * 200 * (n_dims - 1),
        "input_shape": [1] + [16] * n_dims,
        "pretrained_on": pretrained,
        "weights_sha256": None if pretrained is None else hashlib.sha256(backbone.encode()).hexdigest(),
        "licence": "Apache-2.0",
        "source": "https://example.org",
    }


def _config_row(space: SearchSpace, config: Config, design: str) -> dict[str, Any]:
    values = {hp.name: config.get(hp.name) for hp in space.hyperparameters}
    return {"config_id": config.config_id, "design": design, **values}


def unchecked_config(values: dict[str, Any]) -> Config:
    """A Config as nobody should make it: of values that no space allows, without a JSON form too."""
    config = Config({})
    config._values = dict(sorted(values.items()))
    config.config_id = repr(config._values)
    return config
