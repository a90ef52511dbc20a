"""Open a sealed corpus and read it: manifest, tables, SQL, predictions, benchmarks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaquery.errors import CorpusError, InvalidInput, UnknownName
from metaquery.schema.documents import MANIFEST, SPACE, check_document
from metaquery.schema.parquet import decoded
from metaquery.schema.tables import TABLE_NAMES
from metaquery.space import SearchSpace
from metaquery.types import Split

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from metaquery.benchmarks.base import Benchmark
    from metaquery.dense import Dense
    from metaquery.ensembles import Ensemble
    from metaquery.metrics import Metric
    from metaquery.rescoring import Score
    from metaquery.result import Result
    from metaquery.schema.prediction_reader import PredictionFile
    from metaquery.schema.predictions import Checkpoint
    from metaquery.sql import SqlSession

_BUNDLED = Path(__file__).parent / "bundled"


def open(source: str | Path | Sequence[str | Path]) -> Corpus:
    """Open the corpus `source`: the name of a bundled one, the path of a sealed one, or hf://datasets/ORG/NAME[@REV].

    Of one, only the manifest is read; of the Hub, what was pulled is opened, or the small tables are pulled first, see
    `metaquery.hub`. Several, in a list or joined by commas, are opened as one, see `metaquery.union`. Raises
    UnknownName for an unknown name, CorpusError for what is not a sealed corpus, InvalidInput for several that clash.
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
        from metaquery.hub import opened

        return opened(text)
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
    def roots(self) -> tuple[Path, ...]:
        """The directories that it is read from: one, or of a union those of all its members."""
        return (self.root,)

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
        from metaquery.metrics import METRICS

        names = sorted(METRICS, key=lambda name: (name != "auc", METRICS[name].direction == "minimize"))
        curves = self.table("curves", [f"val_{name}" for name in names])
        known = [name for name, column in zip(names, curves.columns, strict=True) if column.null_count < len(curves)]
        return next(iter(known), "auc")

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
            from metaquery.hub import missing

            raise CorpusError(f"{path} is missing: {missing(self.root, name)}")
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise CorpusError(f"{path} leads out of the corpus: a corpus must hold its own files")
        return path

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The table called `name`, or only its `columns`."""
        if name not in TABLE_NAMES:
            raise UnknownName.of("table", name, TABLE_NAMES)
        parquet = self._parquet(name)
        self._check_columns(name, parquet.schema_arrow, columns)
        return decoded(lambda: parquet.read(columns=columns), self.path(f"{name}.parquet"))

    def trials(self, dataset: str, fold: int) -> tuple[NDArray[np.int64], pa.Table]:
        """The positions in `trials` of the trials of one dataset and fold, and their rows there.

        Raises UnknownName for an unknown dataset or fold.
        """
        import numpy as np
        import pyarrow.compute as pc

        if dataset not in self.datasets:
            raise UnknownName.of("dataset", dataset, self.datasets)
        of_dataset = pc.equal(self._trials["dataset"], dataset)
        here = np.flatnonzero(pc.and_(of_dataset, pc.equal(self._trials["fold"], fold)))
        if len(here) == 0:
            folds = sorted(set(self._trials.filter(of_dataset)["fold"].to_pylist()))
            raise UnknownName.of(f"fold of {dataset}", fold, map(str, folds))
        return here, self._trials.take(here)

    def spans(self) -> NDArray[np.int32]:
        """Which epochs of the dense arrays are records, shape (n_trials, 2): a trial's first, from 0, and its end."""
        return self._dense.spans

    def curves(self, dataset: str, fold: int, columns: Sequence[str]) -> tuple[pa.Table, pa.Table]:
        """The trials of one dataset and fold, and `columns` of their curves in the same order.

        The curves of the first trial are the first `epochs_run` rows, and so on. Only the row groups they are in
        are read, whatever the size of the corpus. Raises UnknownName for an unknown dataset or fold.
        """
        import numpy as np

        here, mine = self.trials(dataset, fold)
        first, last = int(here[0]), int(here[-1])
        ends = np.cumsum(self._trials["epochs_run"].to_numpy())
        rows = self._curve_rows(int(ends[first - 1]) if first else 0, int(ends[last]), ["trial_id", *columns])
        expected = np.repeat(mine["trial_id"].to_numpy(), mine["epochs_run"].to_numpy())
        if last - first + 1 != len(here) or not np.array_equal(rows["trial_id"].to_numpy(), expected):
            raise CorpusError(
                f"the curves in {self.root} are not in the order of its trials: run  metaquery verify  on it"
            )
        return mine, rows.select(list(columns))

    def curve(self, trial_id: str, column: str) -> NDArray[np.float32]:
        """The records of one trial in the curve column `column`, shape (epochs_run,), from the dense arrays."""
        return self._dense.curve(trial_id, column)

    def dense(self, column: str) -> NDArray[np.float32]:
        """A curve column of all trials, in the order of `trials`, shape (n_trials, epochs); NaN where there is none.

        A memory-mapped array, see `metaquery.dense`. Raises UnknownName for a column that is not there.
        """
        return self._dense.column(column)

    def summary(self, metric: str | None = None) -> pa.Table:
        """The trials, each with its best epoch by the validation value of `metric` (by default `default_metric`), its
        last epoch, and what both gave and cost; see `metaquery.dense_summary.summary`."""
        from metaquery.dense_summary import summary
        from metaquery.metrics import metric as metric_called

        return summary(self._dense, self._trials, metric_called(metric or self.default_metric))

    def sql(self, query: str) -> Result:
        """Run one read-only SQL statement (DuckDB's dialect) over the tables and the views of `metaquery.views`.

        Raises InvalidInput where it fails, CorpusError where it needs a table that was not pulled.
        """
        from metaquery.views import tables_of

        try:
            return self._sql.run(query)
        except InvalidInput:
            for table in tables_of(query):
                self.path(f"{table}.parquet")
            raise

    def named_query(self, name: str) -> Result:
        """The answer to one of the questions of `metaquery.queries`; raises UnknownName for another."""
        from metaquery.queries import named_query

        return self.sql(named_query(name).sql)

    def predictions(
        self, trial_id: str, split: Split = "test", epoch: Checkpoint = "last"
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """True classes, shape (n,), and class probabilities, shape (n, n_classes), of one trial.

        `epoch` is a stored one, `best` (highest validation AUC, the first on ties) or `last`. Samples are in
        ascending order of their index in `splits`. The most probable class is exact, AUC and loss are within
        `predictions.max_error` of the manifest. Raises UnknownName or InvalidInput with what is there instead.
        """
        from metaquery.predictions import read

        return read(self, trial_id, split, epoch)

    def checkpoints(self, trial_id: str) -> dict[Checkpoint, int]:
        """The checkpoints whose predictions of one trial are stored, with their epochs; none where no epoch ran."""
        from metaquery.predictions import stored_checkpoints

        return stored_checkpoints(self, trial_id)

    def rescore(
        self,
        metric: str | Metric | Score,
        trials: Sequence[str] | None = None,
        epochs: Sequence[Checkpoint] = ("best",),
    ) -> Result:
        """A metric that was never stored, computed from predictions: one row per trial, checkpoint and split.

        `metric` is a name (those of the curves, `brier`, `mcc`), a Metric, or a function of labels (n,) and
        probabilities (n, n_classes) that returns a number. `trials` are ids, by default of all trials with an epoch.
        The columns are trial_id, dataset, fold, checkpoint, epoch, split and the metric's name. A trial has no row of a
        checkpoint that it did not reach. Raises UnknownName for a name, InvalidInput for an epoch that is not stored.
        """
        from metaquery.rescoring import rescore

        return rescore(self, metric, trials, epochs)

    def ensemble(
        self,
        dataset: str,
        fold: int = 0,
        metric: str | Metric | None = None,
        size: int = 50,
        epoch: Checkpoint = "best",
        trials: Sequence[str] | None = None,
    ) -> Ensemble:
        """The greedy ensemble, with replacement, of the trials of one dataset and fold (Caruana et al., ICML 2004).

        It is selected on validation predictions, of `trials` or of all, in `size` steps, by `default_metric` unless
        another is named, and comes with its value on test beside that of the best trial alone. The same call gives
        the same ensemble.
        """
        from metaquery.ensembles import ensemble

        return ensemble(self, dataset, fold, metric, size, epoch, trials)

    def calibrate(self, trials: Sequence[str] | None = None, epoch: Checkpoint = "best") -> Result:
        """Temperature scaling (Guo et al., ICML 2017), fitted on validation predictions and reported on test.

        One row per trial, of `trials` or of all that reached `epoch`: its temperature, and its test loss (nats) and
        calibration error before and after.
        """
        from metaquery.rescoring import calibrate

        return calibrate(self, trials, epoch)

    def prediction_file(self, dataset: str) -> PredictionFile:
        """The open prediction file of `dataset`."""
        if dataset not in self._predictions:
            from metaquery.schema.prediction_reader import PredictionFile
            from metaquery.schema.predictions import predictions_path

            name = predictions_path(dataset)
            if name not in self._files:
                raise InvalidInput(f"corpus {self.name} stores no predictions of {dataset}")
            self._predictions[dataset] = PredictionFile(self.path(name))
        return self._predictions[dataset]

    def benchmark(
        self,
        dataset: str,
        kind: str = "tabular",
        metric: str | None = None,
        fold: int = 0,
        seed: int = 0,
        **options: Any,
    ) -> Benchmark:
        """One dataset, fold and seed as an optimizer's problem, by `default_metric` unless another is named.

        `options` are those of the kind. Raises UnknownName with what exists instead.
        """
        from metaquery.benchmarks import make_benchmark

        name = self.default_metric if metric is None else metric
        return make_benchmark(kind, self, dataset=dataset, metric=name, fold=fold, seed=seed, **options)

    def describe(self) -> str:
        """What the corpus holds, in words and small tables."""
        from metaquery.description import describe

        return describe(self)

    def __repr__(self) -> str:
        return f"Corpus({self.name} {self.version}, {self.root})"

    @cached_property
    def _sql(self) -> SqlSession:
        from metaquery.metrics import metric
        from metaquery.sql import SqlSession

        files = {name: f"{name}.parquet" for name in TABLE_NAMES}
        present = {name: self.path(file) for name, file in files.items() if (self.root / file).is_file()}
        return SqlSession(present, metric(self.default_metric))

    @cached_property
    def _dense(self) -> Dense:
        from metaquery.dense import Dense

        return Dense(self.path("trials.parquet"), self.path("curves.parquet"), self.epochs)

    @cached_property
    def _trials(self) -> pa.Table:
        columns = ["trial_id", "dataset", "fold", "config_id", "seed", "status", "epochs_planned", "epochs_run"]
        return self.table("trials", [*columns, "total_seconds"])

    @cached_property
    def trial_parts(self) -> dict[str, tuple[str, int]]:
        """Dataset and fold of every trial."""
        columns = (self._trials[name].to_pylist() for name in ("trial_id", "dataset", "fold"))
        return {trial_id: (dataset, fold) for trial_id, dataset, fold in zip(*columns, strict=True)}

    def _parquet(self, name: str) -> Any:
        import pyarrow.parquet as pq

        path = self.path(f"{name}.parquet")
        return decoded(lambda: pq.ParquetFile(path, memory_map=True), path)

    def _check_columns(self, name: str, schema: pa.Schema, columns: Sequence[str] | None) -> None:
        for column in columns or ():
            if column not in schema.names:
                raise UnknownName.of(f"column of {name}", column, schema.names)

    def _curve_rows(self, start: int, stop: int, columns: Sequence[str]) -> pa.Table:
        """Rows `start` to `stop` (excluded) of the curves."""
        import numpy as np

        parquet = self._parquet("curves")
        self._check_columns("curves", parquet.schema_arrow, columns)
        ends = np.cumsum([0, *(parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups))])
        groups = [i for i in range(parquet.num_row_groups) if ends[i] < stop and ends[i + 1] > start]
        path = self.path("curves.parquet")
        data = decoded(lambda: parquet.read_row_groups(groups, columns=list(columns)), path)
        return data.slice(start - int(ends[groups[0]]) if groups else 0, stop - start)
