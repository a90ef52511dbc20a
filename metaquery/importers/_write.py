"""From a source to a sealed corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metaquery.importers._source import Run, Source, counted, sha256
from metaquery.schema.documents import check_document
from metaquery.schema.tables import from_rows, schema_of
from metaquery.schema.writer import write_corpus
from metaquery.space import content_id

if TYPE_CHECKING:
    import pyarrow as pa


def write(source: Source, form: str, out: Path) -> tuple[str, ...]:
    """Write `source`, read by the importer `form`, to `out`; the notes that the manifest keeps.

    Raises InvalidData where the tables break the schema.
    """
    from metaquery import __version__

    check_document("search_space", source.space.to_json(), what="the search space of the import")
    curves = _curves(source, form)
    notes = (_summary(source.runs), *source.notes, *_lacks(curves))
    write_corpus(
        out,
        name=source.name,
        version=source.version,
        builder_version=__version__,
        epochs=source.epochs,
        space=source.space,
        tables={
            **{name: _table(name, rows, source) for name, rows in _rows(source, form).items()},
            "curves": curves,
        },
        predictions=None,
        devices=[],
        provenance={"imported": form, "files": {name: sha256(path) for name, path in sorted(source.files.items())}},
        imported={"format": form, "notes": list(notes)},
    )
    return notes


def _rows(source: Source, form: str) -> dict[str, Iterable[Mapping[str, Any]]]:
    """The rows of all tables but the curves; columns may be missing where they may be null."""
    used = {run.config.config_id: run.config for run in source.runs}
    known = {row["backbone"] for row in source.backbones}
    others = {config["backbone"] for config in used.values() if "backbone" in config} - known
    folds = sorted({(run.dataset, run.fold) for run in source.runs})
    return {
        "datasets": source.datasets,
        "splits": [],
        "metafeatures": [
            {"dataset": dataset, "fold": fold, "name": name, "value": value}
            for dataset, fold in folds
            for name, value in source.metafeatures.get(dataset, {}).items()
        ],
        "backbones": [*source.backbones, *({"backbone": name, "family": name} for name in sorted(map(str, others)))],
        "configs": [{"config_id": config_id, "design": "pool", **config} for config_id, config in used.items()],
        "trials": [
            {
                "trial_id": _trial_id(source, form, run),
                "dataset": run.dataset,
                "fold": run.fold,
                "config_id": run.config.config_id,
                "seed": run.seed,
                "status": run.status,
                "error": run.error,
                "epochs_planned": run.epochs_planned,
                "epochs_run": run.epochs_run,
                "cost_source": source.cost_source,
                "total_seconds": run.total_seconds,
            }
            for run in source.runs
        ],
    }


def _table(name: str, rows: Iterable[Mapping[str, Any]], source: Source) -> pa.Table:
    schema = schema_of(name, source.space, imported=True)
    return from_rows(schema, [dict.fromkeys(schema.names) | dict(row) for row in rows], what=name)


def _curves(source: Source, form: str) -> pa.Table:
    """The table curves, built by columns: a source may have millions of epochs."""
    import pyarrow as pa

    schema = schema_of("curves", source.space, imported=True)
    ids = [_trial_id(source, form, run) for run in source.runs]
    lengths = [run.epochs_run for run in source.runs]
    columns: list[pa.Array] = []
    for column in schema:
        if column.name == "trial_id":
            columns.append(pa.array(np.repeat(np.array(ids, dtype=object), lengths), column.type))
        elif column.name == "epoch":
            columns.append(pa.array(_joined([np.arange(1, n + 1) for n in lengths], "int32"), column.type))
        else:
            parts = [run.columns.get(column.name, np.full(run.epochs_run, np.nan)) for run in source.runs]
            values = _joined(parts, "float32")
            columns.append(pa.array(values, column.type, mask=np.isnan(values)))
    return pa.table(columns, schema=schema)


def _joined(parts: Sequence[Any], kind: str) -> Any:
    return np.concatenate([np.empty(0), *parts]).astype(kind)


def _trial_id(source: Source, form: str, run: Run) -> str:
    return content_id([form, source.name, run.dataset, run.fold, run.config.config_id, run.seed])


def _summary(runs: Sequence[Run]) -> str:
    statuses = Counter(run.status.replace("_", " ") for run in runs)
    ends = ", ".join(f"{n:,} {status}" for status, n in sorted(statuses.items(), key=lambda item: (-item[1], item[0])))
    datasets = len({run.dataset for run in runs})
    epochs = sum(run.epochs_run for run in runs)
    return f"{counted(len(runs), 'trial')} on {counted(datasets, 'dataset')}, {counted(epochs, 'epoch')}: {ends}."


def _lacks(curves: pa.Table) -> list[str]:
    """What the source does not have, in a sentence."""
    empty = [name for name in curves.column_names if curves[name].null_count == len(curves)]
    metrics = [name for name in empty if name.startswith(("val_", "test_"))]
    lacking = ["splits", "predictions"]
    if {name for name in curves.column_names if name.startswith("test_")} <= set(metrics):
        lacking.append("test values")
        metrics = [name for name in metrics if not name.startswith("test_")]
    lacking += metrics + [name for name in empty if not name.startswith(("val_", "test_"))]
    return [f"The source has no {', no '.join(lacking)}: these are empty or null."]
