"""A sealed corpus that a new release grows from: its tables, and the records of its trials, kept as they are."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from metaquery.errors import CorpusError, InvalidInput
from metaquery.schema import TABLE_NAMES, check_document, configs_schema
from metaquery.schema.documents import MANIFEST, SPACE
from metaquery.schema.merging import check_configs, merge_spaces, new_rows, refuse_other_trials
from metaquery.schema.parquet import sort_curves
from metaquery.schema.prediction_reader import PredictionFile
from metaquery.schema.predictions import predictions_path
from metaquery.schema.rounding import rounded_curves
from metaquery.schema.tables import schema_of
from metaquery.schema.writer import Batch, file_entry
from metaquery.space import SearchSpace

Part = tuple[str, int]  # dataset, fold


class Release:
    """The corpus at `root`, whose files must be what its manifest says; CorpusError where they are not."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest, self.hash = sound_manifest(root)
        if "imported" in self.manifest:
            raise InvalidInput(
                f"{root} was imported, and only a corpus that the builder sealed can grow: open it beside"
            )
        self.space = SearchSpace.from_json(json.loads((root / SPACE).read_bytes()))
        self.tables = {name: pq.read_table(root / f"{name}.parquet") for name in TABLE_NAMES if name != "curves"}
        for name, data in self.tables.items():
            if other := set(data.column_names) ^ set(schema_of(name, self.space).names):
                raise InvalidInput(
                    f"{root / name}.parquet has other columns than this version writes ({', '.join(sorted(other))}): "
                    f"seal the run of that release again"
                )

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.manifest['name']} {self.manifest['version']}"

    @cached_property
    def parts(self) -> dict[Part, slice]:
        """The rows in `trials` of every dataset and fold."""
        columns = (self.tables["trials"][name].to_pylist() for name in ("dataset", "fold"))
        found: dict[Part, slice] = {}
        for row, part in enumerate(zip(*columns, strict=True)):
            found[part] = slice(found[part].start if part in found else row, row + 1)
        return found

    def trials(self, part: Part) -> pa.Table:
        """The trials of a dataset and fold."""
        rows = self.parts.get(part, slice(0, 0))
        return self.tables["trials"].slice(rows.start, rows.stop - rows.start)

    def curves(self, part: Part) -> pa.Table:
        """The curves of a dataset and fold: only the row groups that they are in are read."""
        rows = self.parts.get(part, slice(0, 0))
        ends = np.concatenate([[0], np.cumsum(self.tables["trials"]["epochs_run"].to_numpy())])
        start, stop = int(ends[rows.start]), int(ends[rows.stop])
        with pq.ParquetFile(self.root / "curves.parquet") as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            edges = np.concatenate([[0], np.cumsum(sizes)])
            groups = [group for group in range(len(sizes)) if edges[group] < stop and edges[group + 1] > start]
            data = file.read_row_groups(groups)
        return data.slice(start - int(edges[groups[0]]) if groups else 0, stop - start)

    def batch(self, part: Part) -> Batch:
        """All trials of a dataset and fold."""
        dataset, fold = part
        curves = self.curves(part)
        stored = PredictionFile(self.root / predictions_path(dataset)).fold(fold).stored() if len(curves) else ()
        return Batch(self.trials(part), curves, stored)

    def without_known(self, part: Part, batches: Iterator[Batch], what: str) -> Iterator[Batch]:
        """`batches` of a dataset and fold without the trials of this release; InvalidInput where theirs are others."""
        known = self.trials(part)
        ids = known["trial_id"]
        curves: pa.Table | None = None
        for batch in batches:
            shared = refuse_other_trials(known, batch.trials, (self.title, what))
            if not shared:
                yield batch
                continue
            curves = rounded_curves(self.curves(part)) if curves is None else curves
            given = rounded_curves(sort_curves(batch.curves, batch.trials))
            refuse_other_trials(curves, given, (self.title, what))
            trials, rows = (
                data.filter(pc.invert(pc.is_in(data["trial_id"], value_set=ids.combine_chunks())))
                for data in (batch.trials, batch.curves)
            )
            yield Batch(trials, rows, [trial for trial in batch.predictions if trial.trial_id not in shared])

    def grown(
        self, tables: Mapping[str, pa.Table], space: SearchSpace, what: str
    ) -> tuple[dict[str, pa.Table], SearchSpace]:
        """The tables that do not grow with the trials, and the space, of this release and of a run called `what`."""
        merged = merge_spaces(self.space, space)
        schema = configs_schema(merged)
        named = {self.title: self.tables["configs"], what: tables["configs"]}
        for title, configs in named.items():
            check_configs(merged, configs, title)
        result = {}
        for name, data in tables.items():
            new = new_rows(name, self.tables[name], data, (self.title, what))
            old = self.tables[name]
            if name == "configs":
                result[name] = _designs([_with_columns(old, schema), _with_columns(new, schema)], tables["configs"])
            else:
                result[name] = pa.concat_tables([old.cast(data.schema), new])
        return result, merged

    def extends(self, tables: Mapping[str, pa.Table], space: SearchSpace) -> dict[str, Any]:
        """The manifest's block about this release and what one with `tables` and `space` has more."""
        known = set(self.tables["trials"]["trial_id"].to_pylist())
        backbone = dict(zip(*(tables["configs"][name].to_pylist() for name in ("config_id", "backbone")), strict=True))
        cells: Counter[tuple[str, str]] = Counter()
        rows = (tables["trials"][name].to_pylist() for name in ("trial_id", "dataset", "config_id"))
        for trial_id, dataset, config_id in zip(*rows, strict=True):
            if trial_id not in known:
                cells[dataset, backbone[config_id]] += 1
        added = {
            name: sorted(set(tables[f"{name}s"][name].to_pylist()) - set(self.tables[f"{name}s"][name].to_pylist()))
            for name in ("dataset", "backbone")
        }
        return {
            "name": self.manifest["name"],
            "version": self.manifest["version"],
            "hash": self.hash,
            "changes": {
                "trials": [{"dataset": d, "backbone": b, "trials": n} for (d, b), n in sorted(cells.items())],
                "datasets": added["dataset"],
                "backbones": added["backbone"],
                "hyperparameters": [name for name in space.by_name if name not in self.space.by_name],
            },
        }

    def provenance(self) -> list[dict[str, Any]]:
        """How this release and those before it were made, the latest first."""
        own = dict(self.manifest["provenance"])
        earlier = own.pop("earlier", [])
        return [own, *earlier]


def sound_manifest(root: Path) -> tuple[dict[str, Any], str]:
    """The manifest of the corpus at `root` and its SHA-256; CorpusError unless the files are what it says."""
    try:
        content = (root / MANIFEST).read_bytes()
        manifest: dict[str, Any] = json.loads(content)
    except OSError:
        raise CorpusError(f"{root} is not a sealed corpus, it has no {MANIFEST}: give the path of one") from None
    except ValueError as error:
        raise CorpusError(f"{root / MANIFEST} is not JSON: {error}") from None
    check_document("manifest", manifest, what=str(root / MANIFEST), error=CorpusError)
    for entry in manifest["files"]:
        path = root / entry["path"]
        if not path.is_file() or file_entry(root, entry["path"], entry["rows"]) != entry:
            raise CorpusError(f"{path} is not what {MANIFEST} says: run  metaquery verify {root}")
    return manifest, hashlib.sha256(content).hexdigest()


def news(root: Path) -> list[str]:
    """What is new in the sealed corpus at `root`, which grew from another one, in lines."""
    extends = json.loads((root / MANIFEST).read_text())["extends"]
    changes = extends["changes"]
    lines = [f"{row['dataset']} x {row['backbone']}: {row['trials']} new trials" for row in changes["trials"]]
    for name in ("datasets", "backbones", "hyperparameters"):
        if changes[name]:
            lines.append(f"new {name}: {', '.join(changes[name])}")
    return [*(lines or ["nothing is new"]), f"beside all of {extends['name']} {extends['version']}, unchanged"]


def _with_columns(data: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        data[field.name].cast(field.type) if field.name in data.column_names else pa.nulls(len(data), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _designs(parts: list[pa.Table], given: pa.Table) -> pa.Table:
    """The configs of `parts`; one that is of the grid in `given` belongs to the grid."""
    configs = pa.concat_tables(parts)
    grid = given.filter(pc.field("design") == "grid")["config_id"].combine_chunks()
    design = pc.if_else(pc.is_in(configs["config_id"], value_set=grid), "grid", configs["design"])
    position = configs.schema.get_field_index("design")
    return configs.set_column(position, configs.schema.field("design"), design)
