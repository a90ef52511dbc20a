"""Open a sealed corpus and read it: manifest, tables, SQL, predictions, benchmarks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import CorpusError, InvalidInput, UnknownName
from metaquery.metrics import METRICS
from metaquery.result import Result
from metaquery.schema.documents import MANIFEST, SPACE, check_document
from metaquery.schema.prediction_reader import PredictionFile
from metaquery.schema.predictions import CHECKPOINTS, SPLITS, Checkpoint, predictions_path
from metaquery.schema.tables import TABLE_NAMES
from metaquery.space import SearchSpace
from metaquery.types import Split

if TYPE_CHECKING:
    import pyarrow as pa

    from metaquery.benchmarks.base import Benchmark
    from metaquery.sql import SqlSession

_BUNDLED = Path(__file__).parent / "bundled"


def open(source: str | Path | Sequence[str | Path]) -> Corpus:
    """Open the corpus `source`: the name of a bundled one, such as `mini`, or the path of a sealed one.

    Several, in a list or joined by commas, are opened as one, see `metaquery.union`. Of one, the manifest alone is
    read. Raises UnknownName for a name that is not bundled, CorpusError for a directory that is not a sealed corpus,
    InvalidInput for several that clash.
    """
    corpora = [Corpus(locate(name)) for name in sources(source)]
    if len(corpora) == 1:
        return corpora[0]
    from metaquery.union import CorpusUnion

    return CorpusUnion(corpora)


def sources(source: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """The corpora that `source` names, at least one."""
    names = [name for name in source.split(",") if name] if isinstance(source, str) else source
    found: list[str | Path] = [names] if isinstance(names, Path) else list(names)
    if not found:
        raise InvalidInput("expected a corpus, got none: give a bundled name or the path of a sealed corpus")
    return found


def locate(source: str | Path) -> Path:
    """The directory of the corpus `source`."""
    text = str(source)
    if text.startswith("hf://"):
        name = text.removeprefix("hf://").removeprefix("datasets/")
        raise InvalidInput(
            f"{text}: this version reads bundled and local corpora only: download it with"
            f"  hf download --repo-type dataset {name} --local-dir DIR  and open DIR"
        )
    bundled = sorted(path.parent.name for path in _BUNDLED.glob(f"*/{MANIFEST}"))
    if text in bundled:
        return _BUNDLED / text
    path = Path(source)
    if not path.exists():
        raise UnknownName.of("corpus", text, bundled, hint="give a bundled name or the path of a sealed corpus")
    if not (path / MANIFEST).is_file():
        raise CorpusError(f"{path} is not a sealed corpus, it has no {MANIFEST}: run  corpus-builder seal  to make one")
    return path


class Corpus:
    """A sealed corpus. Nothing but its manifest is read until it is asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        content = (root / MANIFEST).read_bytes()
        try:
            manifest = json.loads(content)
        except ValueError as error:
            raise CorpusError(f"{root / MANIFEST} is not JSON: {error}") from error
        check_document("manifest", manifest, what=str(root / MANIFEST), error=CorpusError)
        self.manifest: dict[str, Any] = manifest
        self.hash = hashlib.sha256(content).hexdigest()
        self._files = {entry["path"] for entry in manifest["files"]}
        self._predictions: dict[str, PredictionFile] = {}

    @property
    def name(self) -> str:
        """Name of the corpus."""
        return str(self.manifest["name"])

    @property
    def version(self) -> str:
        """Release of the corpus."""
        return str(self.manifest["version"])

    @property
    def epochs(self) -> int:
        """Full fidelity, in epochs."""
        return int(self.manifest["epochs"])

    @property
    def imported(self) -> bool:
        """Whether `metaquery import` made it, so that columns may be null that the builder always fills."""
        return "imported" in self.manifest

    @cached_property
    def default_metric(self) -> str:
        """AUC, or for an imported corpus without it another metric that has validation values, losses last."""
        if not self.imported:
            return "auc"
        names = sorted(METRICS, key=lambda name: (name != "auc", METRICS[name].direction == "minimize"))
        counts = self.sql(f"select {', '.join(f'count(val_{name})' for name in names)} from curves").rows()[0]
        return next((name for name, count in zip(names, counts, strict=True) if count), "auc")

    @cached_property
    def space(self) -> SearchSpace:
        """The search space that the configs come from."""
        path = self.path(SPACE)
        try:
            document = json.loads(path.read_bytes())
            return SearchSpace.from_json(document)
        except (ValueError, TypeError) as error:
            raise CorpusError(f"{path} is not a search space: {error}") from error

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets, sorted."""
        return tuple(sorted(self.table("datasets", ["dataset"])["dataset"].to_pylist()))

    def path(self, name: str) -> Path:
        """Path of the corpus file `name`; CorpusError where it is unlisted, missing or outside the corpus."""
        if name not in self._files:
            raise CorpusError(f"corpus {self.name} has no file {name}: it is not in {MANIFEST}")
        path = self.root / name
        if not path.is_file():
            raise CorpusError(f"{path} is missing: the corpus is incomplete, copy or download it again")
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise CorpusError(f"{path} leads out of the corpus: a corpus must hold its own files")
        return path

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The table called `name`, or only its `columns`."""
        if name not in TABLE_NAMES:
            raise UnknownName.of("table", name, TABLE_NAMES)
        parquet = self._parquet(name)
        self._check_columns(name, parquet.schema_arrow, columns)
        return _decoded(lambda: parquet.read(columns=columns), self.path(f"{name}.parquet"))

    def curves(self, dataset: str, fold: int, columns: Sequence[str]) -> tuple[pa.Table, pa.Table]:
        """The trials of one dataset and fold, and `columns` of their curves in the same order.

        The curves of the first trial are the first `epochs_run` rows, and so on. Only the row groups they are in
        are read, whatever the size of the corpus. Raises UnknownName for an unknown dataset or fold.
        """
        import pyarrow.compute as pc

        if dataset not in self.datasets:
            raise UnknownName.of("dataset", dataset, self.datasets)
        trials = self._trials
        of_dataset = pc.equal(trials["dataset"], dataset)
        here = np.flatnonzero(pc.and_(of_dataset, pc.equal(trials["fold"], fold)))
        if len(here) == 0:
            folds = sorted(set(trials.filter(of_dataset)["fold"].to_pylist()))
            raise UnknownName.of(f"fold of {dataset}", fold, map(str, folds))
        first, last = int(here[0]), int(here[-1])
        mine = trials.slice(first, len(here))
        ends = np.cumsum(trials["epochs_run"].to_numpy())
        rows = self._curve_rows(int(ends[first - 1]) if first else 0, int(ends[last]), ["trial_id", *columns])
        expected = np.repeat(mine["trial_id"].to_numpy(), mine["epochs_run"].to_numpy())
        if last - first + 1 != len(here) or not np.array_equal(rows["trial_id"].to_numpy(), expected):
            raise CorpusError(
                f"the curves in {self.root} are not in the order of its trials: run  metaquery verify  on it"
            )
        return mine, rows.select(list(columns))

    def sql(self, query: str) -> Result:
        """Run one read-only SQL statement (DuckDB's dialect) over the tables; raises InvalidInput where it fails."""
        return self._sql.run(query)

    def predictions(
        self, trial_id: str, split: Split = "test", epoch: Checkpoint = "last"
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """True classes, shape (n,), and class probabilities, shape (n, n_classes), of one trial.

        `epoch` is a stored one, `best` (highest validation AUC, the first on ties) or `last`. Samples are in
        ascending order of their index in `splits`. A log-probability is exact to `predictions.
        max_log_probability_error` of the manifest. Raises UnknownName or InvalidInput with what is there instead.
        """
        if split not in SPLITS:
            raise UnknownName.of("split", split, SPLITS)
        if trial_id not in self._trial_rows:
            example = f", such as {next(iter(self._trial_rows))}" if self._trial_rows else ""
            raise UnknownName(f"unknown trial {trial_id!r}: expected a trial_id of the table trials{example}")
        dataset, fold = self._trial_rows[trial_id]
        stored = self.prediction_file(dataset).fold(fold)
        row = stored.rows.get(trial_id)
        column = None if row is None else _column(epoch, stored.epochs[row])
        if row is None or column is None:
            raise self._no_predictions(trial_id, epoch, [] if row is None else stored.epochs[row].tolist())
        return stored.labels[split], stored.read(row, column, split)

    def prediction_file(self, dataset: str) -> PredictionFile:
        """The open prediction file of `dataset`."""
        if dataset not in self._predictions:
            name = predictions_path(dataset)
            if name not in self._files:
                raise InvalidInput(f"corpus {self.name} stores no predictions of {dataset}")
            self._predictions[dataset] = PredictionFile(self.path(name))
        return self._predictions[dataset]

    def benchmark(
        self, dataset: str, kind: str = "tabular", metric: str | None = None, fold: int = 0, seed: int = 0
    ) -> Benchmark:
        """One dataset, fold and seed as an optimizer's problem, by `default_metric` unless another is named.

        Raises UnknownName with what exists instead.
        """
        from metaquery.benchmarks import make_benchmark

        name = self.default_metric if metric is None else metric
        return make_benchmark(kind, self, dataset=dataset, metric=name, fold=fold, seed=seed)

    def describe(self) -> str:
        """What the corpus holds, in words and small tables."""
        from metaquery.description import describe

        return describe(self)

    def __repr__(self) -> str:
        return f"Corpus({self.name} {self.version}, {self.root})"

    @cached_property
    def _sql(self) -> SqlSession:
        from metaquery.sql import SqlSession

        return SqlSession({name: self.path(f"{name}.parquet") for name in TABLE_NAMES})

    @cached_property
    def _trials(self) -> pa.Table:
        columns = ["trial_id", "dataset", "fold", "config_id", "seed", "status", "epochs_planned", "epochs_run"]
        return self.table("trials", [*columns, "total_seconds"])

    @cached_property
    def _trial_rows(self) -> dict[str, tuple[str, int]]:
        """Dataset and fold of every trial."""
        columns = (self._trials[name].to_pylist() for name in ("trial_id", "dataset", "fold"))
        return {trial_id: (dataset, fold) for trial_id, dataset, fold in zip(*columns, strict=True)}

    def _no_predictions(self, trial_id: str, epoch: Checkpoint, epochs: list[int]) -> InvalidInput:
        """Why `trial_id` has no predictions at `epoch`."""
        if epoch not in ("best", "last") and not (_is_epoch(epoch) and 1 <= epoch <= self.epochs):
            return InvalidInput(f"epoch must be an integer from 1 to {self.epochs}, 'best' or 'last', got {epoch!r}")
        trial = self._trials.slice(list(self._trial_rows).index(trial_id), 1).to_pylist()[0]
        ran = max(epochs, default=trial["epochs_run"])
        if ran == 0 or (not isinstance(epoch, str) and epoch > ran):
            return InvalidInput(
                f"trial {trial_id} ended ({trial['status']}) after epoch {ran}: it has no epoch {epoch}"
            )
        named = [
            f"{k!r} ({e})" if isinstance(k, str) else str(k) for k, e in zip(CHECKPOINTS, epochs, strict=False) if e
        ]
        return InvalidInput(
            f"predictions of trial {trial_id} at epoch {epoch} are not stored: expected one of {', '.join(named)}"
        )

    def _parquet(self, name: str) -> Any:
        import pyarrow.parquet as pq

        path = self.path(f"{name}.parquet")
        return _decoded(lambda: pq.ParquetFile(path, memory_map=True), path)

    def _check_columns(self, name: str, schema: pa.Schema, columns: Sequence[str] | None) -> None:
        for column in columns or ():
            if column not in schema.names:
                raise UnknownName.of(f"column of {name}", column, schema.names)

    def _curve_rows(self, start: int, stop: int, columns: Sequence[str]) -> pa.Table:
        """Rows `start` to `stop` (excluded) of the curves."""
        parquet = self._parquet("curves")
        self._check_columns("curves", parquet.schema_arrow, columns)
        ends = np.cumsum([0, *(parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups))])
        groups = [i for i in range(parquet.num_row_groups) if ends[i] < stop and ends[i + 1] > start]
        path = self.path("curves.parquet")
        data = _decoded(lambda: parquet.read_row_groups(groups, columns=list(columns)), path)
        return data.slice(start - int(ends[groups[0]]) if groups else 0, stop - start)


def _column(epoch: Checkpoint, epochs: NDArray[np.int32]) -> int | None:
    """The checkpoint that holds `epoch`, given the epoch of each checkpoint."""
    if isinstance(epoch, str):
        column = CHECKPOINTS.index(epoch) if epoch in CHECKPOINTS else None
        return None if column is None or epochs[column] == 0 else column
    found = np.flatnonzero(epochs == epoch) if _is_epoch(epoch) and epoch > 0 else epochs[:0]
    return int(found[0]) if len(found) else None


def _is_epoch(value: object) -> TypeGuard[int]:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _decoded(read: Any, path: Path) -> Any:
    """What `read` returns, with pyarrow's errors as CorpusError."""
    import pyarrow as pa

    try:
        return read()
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: a name that is not text
        raise CorpusError(f"{path} cannot be read ({error}): run  metaquery verify  on the corpus") from error
