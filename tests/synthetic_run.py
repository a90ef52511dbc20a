"""A run directory as large as one likes, whose shards are written without training: what `seal` is measured on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from phantom_study import grid_of

from corpus_builder.datasets import Card
from corpus_builder.execute import RunDirectory
from corpus_builder.execute.shards import shard_schema
from corpus_builder.plan import Unit, make_plan
from corpus_builder.study import Study
from metaquery.metrics import METRICS
from metaquery.schema import table
from metaquery.schema.predictions import CHECKPOINTS, SPLITS

_SAMPLES = 40  # of each of the validation and the test part
_TEMPLATES = 64  # different curves and probabilities; the trials share them by their ids


def synthetic_study(n_datasets: int, n_backbones: int, n_configs: int, epochs: int) -> Study:
    """A study of `n_datasets` x `n_backbones` x `n_configs` trials, on 2-D data sets and tiny images."""
    datasets = ["pathmnist", "dermamnist", "octmnist", "pneumoniamnist", "breastmnist", "bloodmnist", "tissuemnist"]
    datasets += ["organamnist", "organcmnist", "organsmnist"]
    backbones = ["tiny_2d.scratch", "resnet18.scratch", "resnet20.cifar10", "shufflenetv2_x0_5.imagenet"]
    grid = grid_of(
        backbones[:n_backbones],
        lr=np.geomspace(1e-4, 1e-2, n_configs // 10).tolist(),
        dropout=[0.0, 0.1, 0.2, 0.3, 0.4],
        label_smoothing=[0.0, 0.1],
    )
    document = {
        "name": "synthetic",
        "version": "0",
        "datasets": datasets[:n_datasets],
        "backbones": backbones[:n_backbones],
        "image_size": {"2d": [32, 32]},
        "epochs": epochs,
        "designs": {"grid": grid},
        "trials_per_unit": 16,
    }
    return Study.from_document(document)


def write_synthetic_run(root: Path, study: Study) -> RunDirectory:
    """A finished run of `study` at `root`."""
    plan = make_plan(study)
    run = RunDirectory.create(root, plan)
    (root / "shards").mkdir()
    templates = {card.name: _templates(card, study.epochs) for card in study.cards}
    for card in study.cards:
        for fold in study.all_folds(card):
            run.write_data(card.name, fold, _data(card, fold, study.size(card)))
    for unit in plan.units:
        shard = _shard(unit, templates[unit.trials[0].spec.dataset])
        pq.write_table(shard, run.shard_path(unit), compression="zstd", write_page_checksum=True)
    return run


def _shard(unit: Unit, templates: pa.Table) -> pa.Table:
    specs = [trial.spec for trial in unit.trials]
    rows = templates.take([int(spec.trial_id, 16) % _TEMPLATES for spec in specs])
    columns: dict[str, Any] = {name: rows[name] for name in rows.column_names}
    columns |= {
        "trial_id": [spec.trial_id for spec in specs],
        "dataset": [spec.dataset for spec in specs],
        "fold": [spec.fold for spec in specs],
        "config_id": [spec.config.config_id for spec in specs],
        "seed": [spec.seed for spec in specs],
    }
    return pa.table([columns[name] for name in shard_schema().names], schema=shard_schema())


def _templates(card: Card, epochs: int) -> pa.Table:
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(_TEMPLATES):
        rise = 1.0 - np.exp(-np.arange(1, epochs + 1) / rng.uniform(2.0, 8.0))
        curve = []
        for epoch in range(epochs):
            values = {
                f"{split}_{name}": float(np.float32(0.5 + 0.4 * rise[epoch] * rng.uniform(0.9, 1.0)))
                for split in SPLITS
                for name in METRICS
            }
            for split in SPLITS:  # a count over the samples
                values[f"{split}_accuracy"] = round(values[f"{split}_accuracy"] * _SAMPLES) / _SAMPLES
            seconds = {"train_seconds": float(rng.uniform(1.0, 1.1)), "eval_seconds": float(rng.uniform(0.3, 0.4))}
            rate = {"epoch": epoch + 1, "learning_rate": float(1e-3 * (1 - rise[epoch])), "train_loss": 1 - rise[epoch]}
            curve.append({**rate, **values, **seconds})
        best = int(np.argmax([np.float32(row["val_auc"]) for row in curve])) + 1
        kept = [k for k in CHECKPOINTS if isinstance(k, str) or k <= epochs]
        items = []
        for split in SPLITS:
            by_epoch: dict[int, Any] = {}
            for checkpoint in kept:
                epoch = {"best": best, "last": epochs}.get(str(checkpoint), checkpoint)
                if epoch not in by_epoch:
                    p = rng.dirichlet(np.ones(len(card.classes)), _SAMPLES).astype(np.float32)
                    by_epoch[epoch] = p.ravel()
                items.append(
                    {
                        "checkpoint": str(checkpoint),
                        "split": split,
                        "n_classes": len(card.classes),
                        "probabilities": by_epoch[epoch],
                    }
                )
        rows.append({**_TRIAL, "epochs_planned": epochs, "epochs_run": epochs, "curve": curve, "predictions": items})
    return pa.Table.from_pylist(rows, schema=shard_schema())


_TRIAL = {  # the identity is filled in for every trial
    "trial_id": "",
    "dataset": "",
    "fold": 0,
    "config_id": "",
    "seed": 0,
    "status": "completed",
    "error": None,
    "device": "none",
    "precision": "float32",
    "engine": "single",
    "fused_width": 1,
    "cost_source": "measured",
    "total_seconds": 40.0,
    "peak_memory_bytes": None,
    "versions": "{}",
}


def _data(card: Card, fold: int, size: tuple[int, ...]) -> dict[str, pa.Table]:
    n_classes = len(card.classes)
    dataset = {
        "dataset": card.name,
        "title": card.title,
        "modality": card.modality,
        "body_part": card.body_part,
        "oncology": card.oncology,
        "task": "binary" if n_classes == 2 else "multiclass",
        "n_classes": n_classes,
        "class_names": list(card.classes),
        "n_dims": card.n_dims,
        "channels": card.channels,
        "shape": list(size),
        "n_samples": 3 * _SAMPLES,
        "n_groups": 3 * _SAMPLES,
        "split_kind": "grouped",
        "family": card.family,
        "licence": card.licence,
        "source": card.source,
        "citation": card.citation,
        "sha256": "0" * 64,
    }
    roles = np.repeat(["train", "val", "test"], _SAMPLES)
    splits = [
        {"dataset": card.name, "fold": fold, "sample": n, "group": f"g{n}", "label": n % n_classes, "role": str(role)}
        for n, role in enumerate(roles)
    ]
    rows = {"datasets": [dataset], "splits": splits, "metafeatures": []}
    return {name: pa.Table.from_pylist(rows[name], schema=table(name).arrow_schema()) for name in rows}
