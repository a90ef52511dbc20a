"""The data card of a corpus: a Hugging Face dataset card whose every number is read from the corpus's own tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import yaml

from metaquery.schema import TABLE_NAMES, table
from metaquery.schema.prediction_encoding import MAX_ERROR
from metaquery.schema.predictions import CHECKPOINTS
from metaquery.schema.rounding import RESOLUTION
from metaquery.types import EPOCHLESS_FAMILY

if TYPE_CHECKING:
    import pyarrow as pa


def corpus_card(
    provenance: Mapping[str, Any], tables: Mapping[str, pa.Table], *, extends: Mapping[str, Any] | None = None
) -> str:
    """The card (Markdown with YAML front matter) of a corpus whose tables are `tables`.

    `curves` need not be among them. `provenance` and `extends` are the blocks of those names of the manifest.
    """
    study = provenance["study"]
    rows = {name: tables[name].to_pylist() for name in ("datasets", "backbones")}
    rows["datasets"].sort(key=itemgetter("dataset"))
    rows["backbones"].sort(key=itemgetter("backbone"))
    trials = tables["trials"]
    seconds = sum(trials["total_seconds"].to_pylist())
    spent = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"
    counts = {name: len(data) for name, data in tables.items()}
    counts["curves"] = sum(trials["epochs_run"].to_pylist())
    sections = [
        front_matter(f"MedCurves {study['name']} {study['version']}", TABLE_NAMES),
        f"# MedCurves {study['name']}, version {study['version']}",
        str(study.get("description", "")).strip(),
        f"{len(trials)} trials of up to {max(trials['epochs_planned'].to_pylist())} epochs, {counts['curves']} epochs "
        f"in all, {spent} of training and evaluation. No image is part of it.",
        *([] if extends is None else ["## What is new", _news(extends)]),
        "## Contents",
        _contents(trials, tables["configs"]),
        "## How it was made",
        _making(trials),
        _of_the_study(provenance, extends),
        f"```yaml\n{yaml.safe_dump(_recipe_of(study), sort_keys=True, default_flow_style=None, width=100)}```",
        "## Datasets",
        _datasets(rows["datasets"], tables["splits"]),
        "## Backbones",
        _backbones(rows["backbones"]),
        "## Tables",
        "\n".join(f"- `{name}` ({counts[name]} rows): {table(name).description}" for name in TABLE_NAMES),
        _resolution(),
        "## Predictions",
        _predictions(),
    ]
    if notes := study.get("notes"):
        sections += ["## Known limits", "\n".join(f"- {note}" for note in notes)]
    sections += ["## What to cite", "\n".join(f"- {row['dataset']}: {row['citation']}" for row in rows["datasets"])]
    return "\n\n".join(section for section in sections if section) + "\n"


def front_matter(title: str, names: Iterable[str]) -> str:
    """The YAML that a card on the Hub begins with; the tables `names` are what the viewer and `load_dataset` offer."""
    front = {
        "pretty_name": title,
        "license": "other",
        "license_name": "see-the-card",
        "task_categories": ["image-classification", "tabular-regression"],
        "tags": ["medical", "automl", "hyperparameter-optimization", "learning-curves", "meta-learning"],
        "configs": [{"config_name": name, "data_files": f"{name}.parquet"} for name in names],
    }
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---"


def _recipe_of(study: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in study.items() if key not in ("description", "notes")}


def _markdown(header: list[str], rows: list[list[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _of_the_study(provenance: Mapping[str, Any], extends: Mapping[str, Any] | None) -> str:
    trials = "these trials" if extends is None else "the trials that are new"
    kept, unfinished = provenance["trials_planned"], provenance.get("trials_unfinished", 0)
    limits, left_out = provenance.get("limits", []), provenance.get("trials_left_out", 0)
    if not (limits or unfinished):
        return f"The study, which `corpus-builder plan` turns into exactly {trials}:"
    said = [f"The study, which asks for {kept + left_out} trials."]
    if limits:
        verb = "leaves" if len(limits) == 1 else "leave"
        said.append(f"{' and '.join(limits).capitalize()} {verb} {left_out} of them out.")
    if unfinished:
        said.append(f"{unfinished} were not run yet.")
    return f"{' '.join(said)} `corpus-builder plan` names them all:"


def _news(extends: Mapping[str, Any]) -> str:
    changes = extends["changes"]
    added = sum(row["trials"] for row in changes["trials"])
    lines = [
        f"This release has all of {extends['name']} {extends['version']} (SHA-256 of its manifest {extends['hash']}), "
        f"unchanged, and {added} more trials."
    ]
    for name in ("datasets", "backbones", "hyperparameters"):
        if changes[name]:
            lines.append(f"New {name}: {', '.join(changes[name])}.")
    body = [[row["dataset"], row["backbone"], row["trials"]] for row in changes["trials"]]
    return " ".join(lines) + ("\n\n" + _markdown(["dataset", "backbone", "new trials"], body) if body else "")


def _contents(trials: pa.Table, configs: pa.Table) -> str:
    backbone_of = dict(zip(configs["config_id"].to_pylist(), configs["backbone"].to_pylist(), strict=True))
    cells: Counter[tuple[str, str]] = Counter()
    completed: Counter[tuple[str, str]] = Counter()
    seconds: Counter[tuple[str, str]] = Counter()
    statuses: Counter[str] = Counter()
    columns = (trials[name].to_pylist() for name in ("dataset", "config_id", "status", "total_seconds"))
    for dataset, config_id, status, cost in zip(*columns, strict=True):
        cell = (dataset, backbone_of[config_id])
        cells[cell] += 1
        completed[cell] += status == "completed"
        seconds[cell] += cost
        statuses[status] += 1
    body = [[d, b, n, completed[d, b], f"{seconds[d, b] / n:.0f}"] for (d, b), n in sorted(cells.items())]
    said = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    return (
        _markdown(["dataset", "backbone", "trials", "completed", "mean seconds a trial"], body)
        + f"\n\nBy status: {said}. A trial that did not complete is a row with its status and message, and its curve "
        "has the epochs that ran."
    )


def _making(trials: pa.Table) -> str:
    kinds = set(zip(trials["device"].to_pylist(), trials["precision"].to_pylist(), strict=True))
    devices = ", ".join(sorted(f"{device} ({precision})" for device, precision in kinds))
    versions = sorted(set(trials["versions"].to_pylist()))
    software = "; ".join(", ".join(f"{k} {v}" for k, v in json.loads(text).items()) for text in versions)
    sources = ", ".join(sorted(set(trials["cost_source"].to_pylist())))
    memory = trials["peak_memory_bytes"].null_count < len(trials)
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


def _resolution() -> str:
    (error,) = set(RESOLUTION["max_error"].values())
    loss, seconds = (RESOLUTION["max_relative_error"][name] for name in ("loss", "seconds"))
    return (
        f"Curves are rounded far below the noise of a seed or a timer: metrics between 0 and 1 by at most {error:.2g}, "
        f"losses by at most {loss:.2g} and seconds by at most {seconds:.2g} of their value. The epoch of the best "
        f"validation AUC of a trial stays what it was."
    )


def _predictions() -> str:
    checkpoints = ", ".join(map(str, CHECKPOINTS))
    errors = " and ".join(f"{name} by at most {bound:g}" for name, bound in MAX_ERROR.items())
    return (
        f"Class probabilities of every validation and test sample at epochs {checkpoints}, one Zarr store in a zip for "
        f"each dataset. Storing them changes {errors}, and never the most probable class."
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
