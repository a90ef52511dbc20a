"""Sealing a corpus: tables, predictions and manifest, checked, in one atomic step."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaquery.errors import InvalidData, InvalidInput
from metaquery.schema.checks import problems_of_tables
from metaquery.schema.documents import CARD, MANIFEST, SCHEMA_VERSION, SPACE, check_document
from metaquery.schema.parquet import sort_tables, write_parquet
from metaquery.schema.prediction_writer import write_predictions
from metaquery.schema.predictions import CHECKPOINTS, MAX_LOG_PROBABILITY_ERROR, TrialPredictions
from metaquery.schema.tables import TABLE_NAMES, schema_of
from metaquery.space import SearchSpace

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN_PROBLEMS = 5


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
) -> Path:
    """Write a sealed corpus to `out` and return it; the same input gives the same bytes.

    `tables` are all tables of the schema, rows in any order; `predictions` those of every trial with an epoch, in
    any order, or None for a corpus that stores none; `card` is the text of its README.md. Everything is written
    beside `out` under a temporary name and renamed once, so that `out` is either whole or not there. An `out` that
    already holds exactly this corpus is left as it is.

    Raises InvalidData where the tables or predictions break the schema, InvalidInput where `out` is something else.
    """
    out = Path(out)
    if out.exists() and not (out / MANIFEST).is_file():
        raise InvalidInput(f"{out} exists and is not a sealed corpus: remove it or name another directory")
    problems = problems_of_tables(tables, space, epochs)
    if problems:
        more = f" (and {len(problems) - _SHOWN_PROBLEMS} more)" if len(problems) > _SHOWN_PROBLEMS else ""
        raise InvalidData("the tables cannot be sealed: " + "; ".join(problems[:_SHOWN_PROBLEMS]) + more)
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        root, scratch = staging / "corpus", staging / "scratch"
        root.mkdir()
        scratch.mkdir()
        rows: dict[str, int | None] = {SPACE: None}
        (root / SPACE).write_bytes(_json(space.to_json()))
        if card is not None:
            rows[CARD] = None
            (root / CARD).write_text(card, encoding="utf-8")
        schemas = {table: schema_of(table, space) for table in TABLE_NAMES}
        ordered = sort_tables({table: tables[table].select(s.names).cast(s) for table, s in schemas.items()})
        for table, data in ordered.items():
            write_parquet(data, root / f"{table}.parquet")
            rows[f"{table}.parquet"] = len(data)
        if predictions is not None:
            rows |= write_predictions(root, scratch, ordered, predictions)
        manifest = {
            "name": name,
            "version": version,
            "schema_version": SCHEMA_VERSION,
            "builder_version": builder_version,
            "epochs": epochs,
            "devices": sorted(devices),
            "files": [file_entry(root, path, rows[path]) for path in sorted(rows)],
            "predictions": {
                "checkpoints": list(CHECKPOINTS) if predictions is not None else [],
                "max_log_probability_error": MAX_LOG_PROBABILITY_ERROR,
            },
            "provenance": dict(provenance),
        }
        check_document("manifest", manifest, what="the manifest")
        (root / MANIFEST).write_bytes(_json(manifest))
        _publish(root, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return out


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
