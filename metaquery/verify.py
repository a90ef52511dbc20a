"""Checks of a whole corpus: files against the manifest, tables against each other, predictions against curves.

Every check runs on whatever can be read, so that a damaged file hides no other fault; the meaning of the data is
checked whether or not the checksums hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metaquery.corpus import Corpus, locate, sources
from metaquery.corpus import open as open_corpus
from metaquery.errors import InvalidInput, MedCurvesError
from metaquery.schema.checks import problems_of_tables, sound_tables
from metaquery.schema.documents import MANIFEST, SURROGATES
from metaquery.schema.rounding import RESOLUTION, off_resolution
from metaquery.schema.tables import TABLE_NAMES
from metaquery.verify_predictions import prediction_problems

if TYPE_CHECKING:
    import pyarrow as pa


def verify(source: str | Path | Sequence[str | Path]) -> list[str]:
    """Every problem of the corpus `source`, one line each that names the file, table or trial; empty when it is sound.

    Several, as for `metaquery.open`, are checked one by one, and where all are sound, that they do not clash. Raises
    what `metaquery.open` raises where `source` is no corpus at all.
    """
    names = sources(source)
    if len(names) == 1:
        return _problems(names[0])
    problems = [f"{name}: {problem}" for name in names for problem in _problems(name)]
    if not problems:
        try:
            open_corpus(names)
        except MedCurvesError as error:
            problems.append(str(error))
    return problems


def _problems(source: str | Path) -> list[str]:
    root = locate(source)
    try:
        corpus = Corpus(root)
    except MedCurvesError as error:
        return [str(error)]
    problems = list(_file_problems(corpus))
    tables, unreadable = _read_tables(corpus)
    problems += unreadable
    try:
        space = corpus.space
    except MedCurvesError as error:
        problems.append(str(error))
        space = None
    problems += problems_of_tables(tables, space, corpus.epochs, imported=corpus.imported)
    sound, _ = sound_tables(tables, space, imported=corpus.imported)
    if {"trials", "curves"} <= sound.keys():
        problems += _order_problems(sound["trials"], sound["curves"])
    if "curves" in sound:
        problems += _resolution_problems(corpus, sound["curves"])
    if {"datasets", "splits", "trials", "curves"} <= sound.keys():
        problems += prediction_problems(corpus, sound)
    return problems


def _file_problems(corpus: Corpus) -> Iterator[str]:
    """Files that are missing, changed, of another length than the manifest says, or not in it."""
    entries = corpus.manifest["files"]
    listed = {entry["path"] for entry in entries}
    for path in sorted({entry["path"] for entry in entries if [e["path"] for e in entries].count(entry["path"]) > 1}):
        yield f"{path}: it is in {MANIFEST} more than once"
    for entry in entries:
        path = corpus.root / entry["path"]
        if not path.is_file():
            yield f"{entry['path']}: the file is missing"
            continue
        size = path.stat().st_size
        if size != entry["bytes"]:
            yield f"{entry['path']}: {size} bytes, {MANIFEST} says {entry['bytes']}"
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if digest != entry["sha256"]:
            yield f"{entry['path']}: its SHA-256 is not the one in {MANIFEST}, the content has changed"
    for path in sorted(corpus.root.rglob("*")):
        name = path.relative_to(corpus.root).as_posix()
        if path.is_symlink() and not path.resolve().is_relative_to(corpus.root.resolve()):
            yield f"{name}: it leads out of the corpus"
        if path.is_dir() or name == MANIFEST or name in listed:
            continue
        if name.startswith(f"{SURROGATES}/"):
            yield from _surrogate_problems(corpus, path, name)
        else:
            yield f"{name}: the file is not in {MANIFEST}"


def _surrogate_problems(corpus: Corpus, path: Path, name: str) -> Iterator[str]:
    """That `path` is no surrogate of `corpus`; no manifest has them, as they are learned from the sealed corpus."""
    from metaquery.surrogates.store import find

    try:
        find(corpus, path.stem, path)
    except InvalidInput as error:
        yield f"{name}: {error}"


def _read_tables(corpus: Corpus) -> tuple[dict[str, pa.Table], list[str]]:
    """The tables that can be read, and what is wrong with the others."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = {entry["path"]: entry["rows"] for entry in corpus.manifest["files"]}
    tables: dict[str, pa.Table] = {}
    problems = []
    for name in TABLE_NAMES:
        file = f"{name}.parquet"
        if file not in rows:
            continue  # reported as a missing table
        try:
            data = pq.ParquetFile(corpus.path(file), page_checksum_verification=True).read()
            data.validate(full=True)  # offsets and UTF-8, which reading does not check
        except (OSError, ValueError, pa.ArrowException, MedCurvesError) as error:  # ValueError: a name that is not text
            problems.append(f"{file}: it cannot be read ({' '.join(str(error).split())})")
            continue
        tables[name] = data
        if len(data) != rows[file]:
            problems.append(f"{file}: {len(data)} rows, {MANIFEST} says {rows[file]}")
    return tables, problems


def _order_problems(trials: pa.Table, curves: pa.Table) -> Iterator[str]:
    """Rows out of the order that readers rely on."""
    keys = list(zip(*(trials[name].to_pylist() for name in ("dataset", "fold", "config_id", "seed")), strict=True))
    for row in range(1, len(keys)):
        if keys[row - 1] > keys[row]:
            yield f"trials: row {row} is not in the order of dataset, fold, config_id and seed"
            break
    rank = {trial_id: row for row, trial_id in enumerate(trials["trial_id"].to_pylist())}
    ranks = np.array([rank.get(trial_id, -1) for trial_id in curves["trial_id"].to_pylist()], dtype=np.int64)
    wrong = np.flatnonzero(np.diff(ranks * 2**32 + curves["epoch"].to_numpy()) <= 0)
    if len(wrong):
        yield f"curves: row {int(wrong[0]) + 1} is not in the order of trials and epochs"


def _resolution_problems(corpus: Corpus, curves: pa.Table) -> Iterator[str]:
    """Values of the curves that are finer than the manifest says."""
    stated = corpus.manifest.get("curves")
    if stated is None:
        return
    if stated != RESOLUTION:
        yield f"{MANIFEST}: curves are said to be at the resolution {stated}, expected {dict(RESOLUTION)}"
        return
    for column, row in off_resolution(curves):
        where = "/".join(str(curves[name][row]) for name in ("trial_id", "epoch"))
        yield f"curves: {column} is not at the resolution that {MANIFEST} states in {where}"
