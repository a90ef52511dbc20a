"""The data card of a corpus: a Hugging Face dataset card whose every number is read from the corpus's own tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import yaml

from metaquery.schema import TABLE_NAMES, table
from metaquery.types import EPOCHLESS_FAMILY

if TYPE_CHECKING:
    import pyarrow as pa


def corpus_card(study: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> str:
    """The card (Markdown with YAML front matter) of a corpus made from `study`, its tables in `tables`."""
    rows = {name: tables[name].to_pylist() for name in TABLE_NAMES if name not in ("curves", "splits")}
    rows["datasets"].sort(key=itemgetter("dataset"))
    rows["backbones"].sort(key=itemgetter("backbone"))
    trials = rows["trials"]
    seconds = sum(trial["total_seconds"] for trial in trials)
    spent = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"
    curve_rows = len(tables["curves"])
    front = {
        "pretty_name": f"MedCurves {study['name']} {study['version']}",
        "license": "other",
        "license_name": "see-the-card",
        "task_categories": ["image-classification", "tabular-regression"],
        "tags": ["medical", "automl", "hyperparameter-optimization", "learning-curves", "meta-learning"],
        "configs": [{"config_name": name, "data_files": f"{name}.parquet"} for name in TABLE_NAMES],
    }
    sections = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# MedCurves {study['name']}, version {study['version']}",
        str(study.get("description", "")).strip(),
        f"{len(trials)} trials of up to {max(trial['epochs_planned'] for trial in trials)} epochs, {curve_rows} epochs "
        f"in all, {spent} of training and evaluation. No image is part of it.",
        "## Contents",
        _contents(rows),
        "## How it was made",
        _making(trials),
        "The study, which `corpus-builder plan` turns into exactly these trials:",
        f"```yaml\n{yaml.safe_dump(_recipe_of(study), sort_keys=True, default_flow_style=None, width=100)}```",
        "## Datasets",
        _datasets(rows["datasets"], tables["splits"]),
        "## Backbones",
        _backbones(rows["backbones"]),
        "## Tables",
        "\n".join(f"- `{name}` ({len(tables[name])} rows): {table(name).description}" for name in TABLE_NAMES),
    ]
    if notes := study.get("notes"):
        sections += ["## Known limits", "\n".join(f"- {note}" for note in notes)]
    sections += ["## What to cite", "\n".join(f"- {row['dataset']}: {row['citation']}" for row in rows["datasets"])]
    return "\n\n".join(section for section in sections if section) + "\n"


def _recipe_of(study: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in study.items() if key not in ("description", "notes")}


def _markdown(header: list[str], rows: list[list[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _contents(rows: Mapping[str, list[dict[str, Any]]]) -> str:
    backbone_of = {config["config_id"]: config["backbone"] for config in rows["configs"]}
    cells: Counter[tuple[str, str]] = Counter()
    completed: Counter[tuple[str, str]] = Counter()
    seconds: Counter[tuple[str, str]] = Counter()
    for trial in rows["trials"]:
        cell = (trial["dataset"], backbone_of[trial["config_id"]])
        cells[cell] += 1
        completed[cell] += trial["status"] == "completed"
        seconds[cell] += trial["total_seconds"]
    body = [[d, b, n, completed[d, b], f"{seconds[d, b] / n:.0f}"] for (d, b), n in sorted(cells.items())]
    statuses = Counter(trial["status"] for trial in rows["trials"])
    said = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    return (
        _markdown(["dataset", "backbone", "trials", "completed", "mean seconds a trial"], body)
        + f"\n\nBy status: {said}. A trial that did not complete is a row with its status and message, and its curve "
        "has the epochs that ran."
    )


def _making(trials: list[dict[str, Any]]) -> str:
    devices = ", ".join(sorted({f"{trial['device']} ({trial['precision']})" for trial in trials}))
    versions = sorted({trial["versions"] for trial in trials})
    software = "; ".join(", ".join(f"{k} {v}" for k, v in json.loads(text).items()) for text in versions)
    sources = ", ".join(sorted({trial["cost_source"] for trial in trials}))
    memory = any(trial["peak_memory_bytes"] is not None for trial in trials)
    return (
        f"Device: {devices}. Software: {software}. Costs are {sources}: on a CPU the CPU time of one thread, which is "
        "what the clock would show on an idle core; on a GPU the wall clock after synchronisation. Warm-up is nobody's "
        f"cost. Peak memory is {'recorded' if memory else 'not recorded (the device does not tell)'}. Validation and "
        "test metrics were computed after every epoch; `eval_seconds` holds both passes."
    )


def _datasets(datasets: list[dict[str, Any]], splits: pa.Table) -> str:
    counts: Counter[tuple[str, str]] = Counter()
    folds = zip(splits["dataset"].to_pylist(), splits["fold"].to_pylist(), strict=True)
    first_fold = dict(sorted(folds, reverse=True))
    for dataset, fold, role in zip(*(splits[name].to_pylist() for name in ("dataset", "fold", "role")), strict=True):
        if fold == first_fold[dataset]:
            counts[dataset, role] += 1
    body = []
    for row in datasets:
        used = " / ".join(str(counts[row["dataset"], role]) for role in ("train", "val", "test"))
        shape = " x ".join(map(str, row["shape"]))
        body.append([row["dataset"], row["modality"], row["n_classes"], shape, used, row["split_kind"], row["licence"]])
    header = ["dataset", "modality", "classes", "shape", "train / val / test", "split", "licence of the images"]
    return (
        _markdown(header, body) + "\n\nCounts are of the samples used in the first fold, after the caps of the study."
    )


def _backbones(backbones: list[dict[str, Any]]) -> str:
    body = [
        [
            row["backbone"],
            "-" if row["parameters"] is None else f"{row['parameters']:,}",
            "-" if row["flops"] is None else f"{row['flops'] / 1e6:,.1f}",
            "-" if row["family"] == EPOCHLESS_FAMILY else row["pretrained_on"] or "random weights",
        ]
        for row in backbones
    ]
    return _markdown(["backbone", "parameters", "MFLOPs a sample, forward", "pretrained on"], body)
