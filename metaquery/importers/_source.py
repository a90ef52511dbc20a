"""What every importer makes of its files: a source, from which one writer makes a corpus."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidData, InvalidInput
from metaquery.space import Config, SearchSpace, Value
from metaquery.types import Status

if TYPE_CHECKING:
    import polars as pl

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Run:
    """One trial: `columns` are columns of the table curves, each of shape (epochs_run,), NaN where undefined."""

    dataset: str
    config: Config
    status: Status
    epochs_planned: int
    columns: Mapping[str, Floats]
    epochs_run: int
    error: str | None = None
    total_seconds: float | None = None
    fold: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """The content of a corpus to be. Rows of `datasets` and `backbones` leave out what the source does not tell.

    `metafeatures` are by dataset and name, the same for every fold; `cost_source` as in the table trials; `files` are
    those that were read, by name; `notes` say in a sentence each what was dropped, cut, flagged or assumed.
    """

    name: str
    epochs: int
    space: SearchSpace
    datasets: Sequence[Mapping[str, Any]]
    runs: Sequence[Run]
    files: Mapping[str, Path]
    notes: Sequence[str]
    cost_source: str | None = "measured"
    version: str = "1.0"
    backbones: Sequence[Mapping[str, Any]] = ()
    metafeatures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Configs:
    """Configs of a space from plain values, each distinct one made and checked once."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._made: dict[tuple[tuple[str, Value], ...], Config] = {}

    def __call__(self, values: Mapping[str, Value], what: str) -> Config:
        """The config of `values`, which must be those of the active hyperparameters; InvalidData names `what`."""
        key = tuple(sorted(values.items()))
        if key not in self._made:
            try:
                self._made[key] = self._space.config(values)
            except InvalidInput as error:
                raise InvalidData(f"{what}: {error}") from error
        return self._made[key]


def file_in(directory: Path, name: str) -> Path:
    """The file `name` of `directory`; InvalidInput where it is not there."""
    path = directory / name
    if not path.is_file():
        raise InvalidInput(f"{directory} has no file {name}: give the directory of the files as they are distributed")
    return path


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; InvalidData where there is none."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidData(f"{path} is not a JSON file: {error}") from error
    if not isinstance(document, dict):
        raise InvalidData(f"{path} must hold a JSON object, got a {type(document).__name__}")
    return document


def read_table(path: Path) -> pl.DataFrame:
    """The table in `path`, Parquet by its suffix, else CSV; InvalidData where it cannot be read."""
    import polars as pl

    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        return pl.read_csv(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InvalidData(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def need_columns(data: pl.DataFrame, names: Iterable[str], path: Path) -> None:
    """Refuse a table without one of the columns `names`."""
    missing = [name for name in names if name not in data.columns]
    if missing:
        raise InvalidData(f"{path} lacks the columns {', '.join(missing)}: it has {', '.join(data.columns)}")


def sha256(path: Path) -> str:
    """SHA-256 of the file."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def counted(n: int, what: str) -> str:
    """`n` things in words: 1 run, 4,665 runs."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"
