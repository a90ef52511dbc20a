"""Several corpora opened as one: one query over all, and each trial served by the corpus that has it.

A row that several have, such as the config of a grid that both ran, is there once, from the first that has it.
`metaquery.schema.merging` says what may not differ. The SQL view `trials` has one column more, `corpus`: the name of
the corpus that the trial comes from. The other views have not, so that `corpus` means one thing in a join.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from metaquery.corpus import Corpus
from metaquery.errors import InvalidInput, UnknownName
from metaquery.schema.merging import check_configs, key_of, merge_spaces, new_rows, refuse_other_trials, without
from metaquery.schema.predictions import Checkpoint
from metaquery.schema.tables import TABLE_NAMES
from metaquery.space import SearchSpace
from metaquery.types import Split

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from metaquery.benchmarks.base import Benchmark
    from metaquery.schema.prediction_reader import PredictionFile
    from metaquery.sql import SqlSession

_SMALL = tuple(name for name in TABLE_NAMES if name not in ("trials", "curves"))


class CorpusUnion(Corpus):
    """The corpora `members`, each under its name, or under name and version where two have the same name.

    Opening it reads their trials, datasets, backbones, configs, splits and meta-features, and raises InvalidInput
    where rows of the same key, or trials of the same id, are not the same.
    """

    def __init__(self, members: Sequence[Corpus]) -> None:
        self.members = _named(members)
        self.manifest = {"members": [corpus.manifest for corpus in members]}
        self.hash = hashlib.sha256("".join(corpus.hash for corpus in members).encode()).hexdigest()
        self._shared = [
            (one, other) for one, other in combinations(self.members, 2) if self._refuse_clashes(one, other)
        ]

    @property
    def name(self) -> str:
        """The names of the corpora."""
        return "+".join(self.members)

    @property
    def version(self) -> str:
        """The releases of the corpora."""
        return "+".join(corpus.version for corpus in self.members.values())

    @property
    def roots(self) -> tuple[Path, ...]:
        """The directories of the corpora."""
        return tuple(corpus.root for corpus in self.members.values())

    @property
    def epochs(self) -> int:
        """The largest full fidelity."""
        return max(corpus.epochs for corpus in self.members.values())

    @property
    def imported(self) -> bool:
        """Whether one of them was imported."""
        return any(corpus.imported for corpus in self.members.values())

    @cached_property
    def space(self) -> SearchSpace:
        """The search space that has the configs of all; InvalidInput where the spaces do not go together."""
        first, *others = self.members.values()
        space = first.space
        for corpus in others:
            space = merge_spaces(space, corpus.space)
        for name, corpus in self.members.items():
            check_configs(space, corpus.table("configs"), name)
        return space

    def path(self, name: str) -> Path:
        """Refused: a file belongs to one corpus."""
        raise InvalidInput(f"{self.name} is several corpora: open one of them to read {name}")

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of all corpora; a column that one of them does not have is null there."""
        import pyarrow as pa

        if name not in TABLE_NAMES:
            raise UnknownName.of("table", name, TABLE_NAMES)
        kept: list[pa.Table] = []
        for member in self.members:
            data = self.members[member].table(name)
            for earlier in self._earlier(member):
                data = self._without(name, data, earlier)
            kept.append(data)
        try:
            merged = pa.concat_tables(kept, promote_options="permissive")
        except pa.ArrowException as error:
            raise InvalidInput(
                f"the {name} of {self.name} do not go together: {' '.join(str(error).split())}"
            ) from None
        self._check_columns(name, merged.schema, columns)
        return merged if columns is None else merged.select(list(columns))

    def curves(self, dataset: str, fold: int, columns: Sequence[str]) -> tuple[pa.Table, pa.Table]:
        """The trials of one dataset and fold, corpus by corpus, and `columns` of their curves in the same order."""
        import pyarrow as pa

        if dataset not in self.datasets:
            raise UnknownName.of("dataset", dataset, self.datasets)
        having = self._having(dataset, fold)
        if not having:
            return next(iter((self._having(dataset) or self.members).values())).curves(dataset, fold, columns)
        names = list(dict.fromkeys(["trial_id", *columns]))
        found = [self.members[member].curves(dataset, fold, names) for member in self.members if member in having]
        for position, member in enumerate(having):
            for earlier in self._earlier(member):
                trials, rows = (self._without("curves", data, earlier) for data in found[position])
                found[position] = trials, rows
        trials, rows = (pa.concat_tables(parts) for parts in zip(*found, strict=True))
        return trials, rows.select(list(columns))

    def curve(self, trial_id: str, column: str) -> NDArray[np.float32]:
        """The records of one trial, from the corpus that has it."""
        return self.members[self._owners.get(trial_id, next(iter(self.members)))].curve(trial_id, column)

    def dense(self, column: str) -> NDArray[np.float32]:
        """A curve column of all trials, corpus by corpus; a copy in memory."""
        import numpy as np

        parts = [corpus.dense(column)[self._own_rows(name)] for name, corpus in self.members.items()]
        whole = np.full((sum(map(len, parts)), self.epochs), np.nan, np.float32)
        for start, part in zip(np.cumsum([0, *map(len, parts)]), parts, strict=False):
            whole[start : start + len(part), : part.shape[1]] = part
        whole.flags.writeable = False
        return whole

    def spans(self) -> NDArray[np.int32]:
        """Which epochs of the dense arrays are records, corpus by corpus."""
        import numpy as np

        return np.concatenate([c.spans()[self._own_rows(name)] for name, c in self.members.items()])

    def summary(self, metric: str | None = None) -> pa.Table:
        """The trials, corpus by corpus, each with its best and last epoch and what both gave and cost."""
        import pyarrow as pa

        name = metric or self.default_metric
        return pa.concat_tables(
            corpus.summary(name).filter(self._own_rows(member)) for member, corpus in self.members.items()
        )

    def predictions(
        self, trial_id: str, split: Split = "test", epoch: Checkpoint = "last"
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """True classes and class probabilities of one trial, from the corpus that has it."""
        return self._owner(trial_id).predictions(trial_id, split, epoch)

    def checkpoints(self, trial_id: str) -> dict[Checkpoint, int]:
        """The checkpoints of one trial that are stored, from the corpus that has it."""
        return self._owner(trial_id).checkpoints(trial_id)

    def prediction_file(self, dataset: str) -> PredictionFile:
        """The prediction file of `dataset`, which only one of the corpora may have trials of."""
        having = self._having(dataset) or self.members
        if len(having) > 1:
            raise InvalidInput(f"{' and '.join(having)} both have trials of {dataset}: open one of them")
        return next(iter(having.values())).prediction_file(dataset)

    def benchmark(
        self,
        dataset: str,
        kind: str = "tabular",
        metric: str | None = None,
        fold: int = 0,
        seed: int = 0,
        **options: Any,
    ) -> Benchmark:
        """One dataset, fold and seed as an optimizer's problem, from the corpus that has its trials, or from all."""
        having = self._having(dataset) or self.members
        if len(having) == 1:
            return next(iter(having.values())).benchmark(dataset, kind, metric, fold, seed, **options)
        epochs = {name: corpus.epochs for name, corpus in having.items()}
        if len(set(epochs.values())) > 1:
            raise InvalidInput(f"the trials of {dataset} have another full fidelity in each corpus, {epochs}: open one")
        return super().benchmark(dataset, kind, metric, fold, seed, **options)

    def describe(self) -> str:
        """What each corpus is, and what all hold together."""
        from metaquery.description import contents, heading

        parts = ["\n".join(heading(corpus)) for corpus in self.members.values()]
        return "\n\n".join([*parts, "\n".join(["together", *contents(self)])])

    def __repr__(self) -> str:
        return f"CorpusUnion({', '.join(map(repr, self.members.values()))})"

    @cached_property
    def _sql(self) -> SqlSession:
        from metaquery.metrics import metric
        from metaquery.sql import SqlSession

        files = {
            f"{number}/{name}": corpus.path(f"{name}.parquet")
            for number, corpus in enumerate(self.members.values())
            for name in TABLE_NAMES
        }
        return SqlSession(files, metric(self.default_metric), {name: self._view(name) for name in TABLE_NAMES})

    def _view(self, name: str) -> str:
        """The query behind the view `name`."""
        from metaquery.sql import parquet, quoted

        numbers = {member: number for number, member in enumerate(self.members)}
        same = " AND ".join(f'known."{column}" = own."{column}"' for column in key_of(name))
        parts = []
        for member, number in numbers.items():
            source = f", {quoted(member)} AS corpus" if name == "trials" else ""
            known = [parquet(f"{numbers[earlier]}/{_keeper(name)}") for earlier in self._earlier(member)]
            new = [f"NOT EXISTS (FROM {rows} AS known WHERE {same})" for rows in known]
            where = f" WHERE {' AND '.join(new)}" if new else ""
            parts.append(f"SELECT own.*{source} FROM {parquet(f'{number}/{name}')} AS own{where}")
        return " UNION ALL BY NAME ".join(parts)

    def _refuse_clashes(self, one: str, other: str) -> bool:
        """Whether the two have rows in common, which must then be the same."""
        a, b, what = self.members[one], self.members[other], (one, other)
        common = False
        for name in _SMALL:
            given = b.table(name)
            common |= len(new_rows(name, a.table(name), given, what)) < len(given)
        shared = refuse_other_trials(a.table("trials"), b.table("trials"), what)
        if shared:
            refuse_other_trials(a.table("curves"), b.table("curves"), what)
        return common or bool(shared)

    def _own_rows(self, member: str) -> NDArray[np.bool_]:
        """Which trials of `member` no earlier corpus has."""
        import numpy as np

        ids = self.members[member].table("trials", ["trial_id"])["trial_id"].to_pylist()
        return np.array([self._owners[trial_id] == member for trial_id in ids], bool)

    def _earlier(self, member: str) -> list[str]:
        """The corpora before `member` that have rows in common with it."""
        return [one for one, other in self._shared if other == member]

    def _without(self, name: str, data: pa.Table, earlier: str) -> pa.Table:
        """`data`, rows of the table `name`, without those that the corpus `earlier` has."""
        key = key_of(name)
        return without(data, self.members[earlier].table(_keeper(name), key), key)

    def _having(self, dataset: str, fold: int | None = None) -> dict[str, Corpus]:
        """The corpora that have trials of `dataset`, in `fold` if given."""
        return {
            name: corpus
            for name, corpus in self.members.items()
            if any(part == dataset and fold in (None, number) for part, number in self._parts[name])
        }

    @cached_property
    def _parts(self) -> dict[str, set[tuple[str, int]]]:
        """The datasets and folds of each corpus that have trials."""
        return {
            name: set(zip(*(rows[column].to_pylist() for column in ("dataset", "fold")), strict=True))
            for name, corpus in self.members.items()
            for rows in [corpus.table("trials", ["dataset", "fold"])]
        }

    def _owner(self, trial_id: str) -> Corpus:
        """The corpus that has the trial, or any, which refuses one that none has."""
        return self.members[self._owners.get(trial_id, next(iter(self.members)))]

    @cached_property
    def _owners(self) -> dict[str, str]:
        """The corpus of every trial, the first that has it."""
        ids = {name: c.table("trials", ["trial_id"])["trial_id"].to_pylist() for name, c in self.members.items()}
        return {trial_id: name for name in reversed(ids) for trial_id in ids[name]}


def _named(members: Sequence[Corpus]) -> dict[str, Corpus]:
    counts = Counter(corpus.name for corpus in members)
    names = [c.name if counts[c.name] == 1 else f"{c.name} {c.version}" for c in members]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InvalidInput(f"two of the corpora are {twice[0]}: give each once")
    return dict(zip(names, members, strict=True))


def _keeper(name: str) -> str:
    """The table of the earlier corpus that the key is looked up in."""
    return "trials" if name == "curves" else name
