"""Sealing a corpus: tables, predictions and manifest, checked, in one atomic step."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metaquery.errors import InvalidData, InvalidInput
from metaquery.schema.checks import problems_of_curves, problems_of_tables
from metaquery.schema.documents import CARD, MANIFEST, SCHEMA_VERSION, SPACE, check_document
from metaquery.schema.parquet import TableWriter, sort_curves, sort_table, write_parquet
from metaquery.schema.prediction_encoding import MAX_ERROR
from metaquery.schema.prediction_writer import FoldWriter, pack, split_parts
from metaquery.schema.predictions import (
    CHECKPOINTS,
    DECIDES_BEST,
    Checkpoint,
    StoredPredictions,
    TrialPredictions,
    checkpoint_epochs,
    predictions_path,
)
from metaquery.schema.rounding import RESOLUTION, rounded_curves
from metaquery.schema.tables import TABLE_NAMES, schema_of
from metaquery.space import SearchSpace

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN_PROBLEMS = 5
_BY_TRIAL = ("trials", "curves")  # tables that grow with the trials


class Batch(NamedTuple):
    """Some trials of one dataset and fold: their rows, those of their curves, and their predictions."""

    trials: pa.Table
    curves: pa.Table
    predictions: Iterable[TrialPredictions | StoredPredictions]


def write_corpus(
    out: Path,
    *,
    name: str,
    version: str,
    builder_version: str,
    epochs: int,
    space: SearchSpace,
    tables: Mapping[str, pa.Table],
    predictions: Iterable[TrialPredictions] | None,
    devices: Sequence[str],
    provenance: Mapping[str, Any],
    card: str | None = None,
    imported: Mapping[str, Any] | None = None,
) -> Path:
    """Write a sealed corpus that is in memory to `out` and return it; the same input gives the same bytes.

    `tables` are all tables of the schema, rows in any order; `predictions` those of every trial with an epoch, in
    any order, or None for a corpus that stores none; for the rest see `CorpusWriter`.
    """
    import pyarrow.compute as pc

    check_out(Path(out))
    _refuse(problems_of_tables(tables, space, epochs, imported=imported is not None))
    given: dict[tuple[str, int], list[TrialPredictions]] = {}
    for trial in predictions or ():
        given.setdefault((trial.dataset, trial.fold), []).append(trial)
    trials, curves = tables["trials"], tables["curves"]
    parts = sorted(set(zip(trials["dataset"].to_pylist(), trials["fold"].to_pylist(), strict=True)))
    for dataset, fold in given.keys() - set(parts):
        unknown = given[dataset, fold][0].trial_id
        raise InvalidData(f"predictions of trial {unknown}: no trials of {dataset} fold {fold}")
    with CorpusWriter(
        out,
        space=space,
        epochs=epochs,
        tables={table: data for table, data in tables.items() if table not in _BY_TRIAL},
        with_predictions=predictions is not None,
        imported=imported,
        checked=True,
    ) as writer:
        for dataset, fold in parts:
            here = trials.filter((pc.field("dataset") == dataset) & (pc.field("fold") == fold))
            rows = curves.filter(pc.is_in(curves["trial_id"], value_set=here["trial_id"].combine_chunks()))
            writer.add(dataset, fold, [Batch(here, rows, given.get((dataset, fold), []))])
        return writer.seal(
            name=name,
            version=version,
            builder_version=builder_version,
            devices=devices,
            provenance=provenance,
            card=card,
        )


class CorpusWriter:
    """A corpus that is written in a stream: `add` every dataset and fold, then `seal`, inside a with statement.

    `tables` are those that do not grow with the trials. Memory holds the trials, and the curves of one fold.
    Everything is written beside `out` under a temporary name and renamed once, so that `out` is either whole or not
    there. An `out` that already holds exactly this corpus is left as it is. `imported` is the manifest's block of that
    name for an imported corpus, whose curves stay as they are; those of others are stored at the resolution of
    `metaquery.schema.rounding`. `checked` says that the tables are known to be sound.

    Raises InvalidData where the tables or predictions break the schema, InvalidInput where `out` is something else.
    """

    def __init__(
        self,
        out: Path,
        *,
        space: SearchSpace,
        epochs: int,
        tables: Mapping[str, pa.Table],
        with_predictions: bool = True,
        imported: Mapping[str, Any] | None = None,
        checked: bool = False,
    ) -> None:
        self._out = Path(out)
        self._space, self._epochs, self._imported = space, epochs, imported
        self._checked, self._with_predictions = checked, with_predictions
        schemas = {table: schema_of(table, space, imported=imported is not None) for table in TABLE_NAMES}
        self._schemas = schemas
        self.tables = {table: sort_table(table, _cast(data, schemas[table])) for table, data in tables.items()}
        self._parts: list[pa.Table] = []
        self._rows: dict[str, int | None] = {}

    def __enter__(self) -> CorpusWriter:
        check_out(self._out)
        self._out.parent.mkdir(parents=True, exist_ok=True)
        self._staging = Path(tempfile.mkdtemp(prefix=f".{self._out.name}.", dir=self._out.parent))
        self._root, self._scratch = self._staging / "corpus", self._staging / "scratch"
        self._root.mkdir()
        self._scratch.mkdir()
        self._curves = TableWriter(self._root / "curves.parquet", self._schemas["curves"])
        return self

    def __exit__(self, *_: object) -> None:
        self._curves.close()
        shutil.rmtree(self._staging, ignore_errors=True)

    @property
    def trials(self) -> pa.Table:
        """The trials that were added, in order."""
        import pyarrow as pa

        return pa.concat_tables(self._parts or [self._schemas["trials"].empty_table()])

    def add(self, dataset: str, fold: int, batches: Iterable[Batch]) -> None:
        """Add all trials of one dataset and fold; datasets and folds must come in ascending order."""
        with ExitStack() as files:
            predictions = None
            if self._with_predictions:
                predictions = files.enter_context(closing(self._fold_writer(dataset, fold)))
            trials, curves = self._gather(batches, predictions)
            if not self._checked:
                _refuse(problems_of_curves(curves, {**self.tables, "trials": trials}, self._imported is not None))
            curves = sort_curves(curves, trials)
            if self._imported is None:
                curves = rounded_curves(curves)
            self._parts.append(trials)
            self._curves.add(curves)
            if predictions is not None:
                path = predictions_path(dataset)
                count = predictions.write(self._scratch / f"{dataset}.zarr", _checkpoints(trials, curves))
                if count:
                    self._rows[path] = (self._rows.get(path) or 0) + count

    def _gather(self, batches: Iterable[Batch], predictions: FoldWriter | None) -> tuple[pa.Table, pa.Table]:
        """The trials, in order, and the curves of `batches`, whose predictions go to `predictions`."""
        import pyarrow as pa

        found: dict[str, list[pa.Table]] = {name: [self._schemas[name].empty_table()] for name in _BY_TRIAL}
        for batch in batches:
            found["trials"].append(_cast(batch.trials, self._schemas["trials"]))
            found["curves"].append(_cast(batch.curves, self._schemas["curves"]))
            if predictions is not None:
                for trial in batch.predictions:
                    predictions.add(trial)
        return sort_table("trials", pa.concat_tables(found["trials"])), pa.concat_tables(found["curves"])

    def _fold_writer(self, dataset: str, fold: int) -> FoldWriter:
        import pyarrow.compute as pc

        row = self.tables["datasets"].filter(pc.field("dataset") == dataset)
        if not len(row):
            raise InvalidData(f"trials: dataset {dataset} not in datasets")
        return FoldWriter(
            dataset, fold, row["n_classes"][0].as_py(), split_parts(self.tables["splits"], dataset, fold), self._scratch
        )

    def seal(
        self,
        *,
        name: str,
        version: str,
        builder_version: str,
        devices: Sequence[str],
        provenance: Mapping[str, Any],
        card: str | None = None,
        extends: Mapping[str, Any] | None = None,
    ) -> Path:
        """Check what was added, write the other files, and give the corpus its name; returns its directory.

        `card` is the text of its README.md, `extends` the manifest's block of that name for a release that grew.
        """
        root, rows = self._root, self._rows
        tables = {**self.tables, "trials": self.trials}
        if not self._checked:
            imported = self._imported is not None
            _refuse(problems_of_tables(tables, self._space, self._epochs, imported=imported, without=("curves",)))
        self._curves.close()
        rows["curves.parquet"] = self._curves.rows
        for table, data in tables.items():
            write_parquet(data, root / f"{table}.parquet")
            rows[f"{table}.parquet"] = len(data)
        for unpacked in sorted(self._scratch.glob("*.zarr")):
            pack(unpacked, root, unpacked.stem)
        rows[SPACE] = None
        (root / SPACE).write_bytes(_json(self._space.to_json()))
        if card is not None:
            rows[CARD] = None
            (root / CARD).write_text(card, encoding="utf-8")
        manifest = {
            "name": name,
            "version": version,
            "schema_version": SCHEMA_VERSION,
            "builder_version": builder_version,
            "epochs": self._epochs,
            "devices": sorted(devices),
            "files": [file_entry(root, path, rows[path]) for path in sorted(rows)],
            "predictions": {
                "checkpoints": list(CHECKPOINTS) if self._with_predictions else [],
                "max_error": MAX_ERROR,
            },
            "provenance": dict(provenance),
        }
        if self._imported is None:
            manifest["curves"] = RESOLUTION
        else:
            manifest["imported"] = dict(self._imported)
        if extends is not None:
            manifest["extends"] = dict(extends)
        check_document("manifest", manifest, what="the manifest")
        (root / MANIFEST).write_bytes(_json(manifest))
        _publish(root, self._out)
        return self._out


def check_out(out: Path) -> None:
    """Raise InvalidInput where `out` is something that a corpus must not replace."""
    if out.exists() and not (out / MANIFEST).is_file():
        raise InvalidInput(f"{out} exists and is not a sealed corpus: remove it or name another directory")


def _cast(data: pa.Table, schema: pa.Schema) -> pa.Table:
    return data.select(schema.names).cast(schema)


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        more = f" (and {len(problems) - _SHOWN_PROBLEMS} more)" if len(problems) > _SHOWN_PROBLEMS else ""
        raise InvalidData("the tables cannot be sealed: " + "; ".join(problems[:_SHOWN_PROBLEMS]) + more)


def _checkpoints(trials: pa.Table, curves: pa.Table) -> dict[str, dict[Checkpoint, int]]:
    """The epochs of the checkpoints of every trial with an epoch, in order; `curves` are in the order of `trials`."""
    values, epochs = curves[DECIDES_BEST].to_pylist(), curves["epoch"].to_pylist()
    found, start = {}, 0
    for trial_id, count in zip(trials["trial_id"].to_pylist(), trials["epochs_run"].to_pylist(), strict=True):
        if count:
            found[trial_id] = checkpoint_epochs(values[start : start + count], epochs[start : start + count])
        start += count
    return found


def file_entry(root: Path, path: str, rows: int | None) -> dict[str, Any]:
    """What the manifest says about the file `path` below `root`."""
    with (root / path).open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {"path": path, "bytes": (root / path).stat().st_size, "sha256": digest, "rows": rows}


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _publish(root: Path, out: Path) -> None:
    """Flush `root` to disk and give it its name in one step."""
    if out.exists():
        if (out / MANIFEST).read_bytes() != (root / MANIFEST).read_bytes():
            raise InvalidInput(
                f"{out} already holds another corpus, and sealed corpora are never changed: name another"
            )
        return
    for path in [*root.rglob("*"), root]:
        _sync(path)
    os.rename(root, out)
    _sync(out.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
