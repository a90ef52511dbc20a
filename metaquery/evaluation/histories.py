"""The history that an optimizer may learn from, made from the tables of a corpus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from metaquery.errors import UnknownName
from metaquery.evaluation.protocols import folds
from metaquery.optimizers.history import DatasetHistory, History

if TYPE_CHECKING:
    from metaquery.corpus import Corpus


def history(
    corpus: Corpus,
    target: str,
    train: Iterable[str] | None = None,
    *,
    metric: str | None = None,
    fold: int = 0,
    seed: int = 0,
) -> History:
    """The trials of the datasets `train` (by default of all other families), for an optimizer to run on `target`.

    `metric` is the corpus's `default_metric` unless given. Raises UnknownName for a dataset that is not there, and
    LeakageError where one of `train` is of the family of `target` (itself included).
    """
    return Histories(corpus, metric, fold, seed).of(target, train)


class Histories:
    """Makes histories, and reads each training dataset once however many targets it trains for.

    A training dataset is read at `fold` and `seed`, or at its first fold where it has no such fold: datasets have
    different numbers of folds, and no image of a training dataset is one of the target's.
    """

    def __init__(self, corpus: Corpus, metric: str | None, fold: int, seed: int) -> None:
        self._corpus = corpus
        self._metric = metric
        self._fold = fold
        self._seed = seed
        columns = corpus.table("datasets", ["dataset", "family"]).to_pydict()
        self._families: dict[str, str] = dict(zip(columns["dataset"], columns["family"], strict=True))
        self._metafeatures: dict[tuple[str, int], dict[str, float]] = {}
        for row in corpus.table("metafeatures", ["dataset", "fold", "name", "value"]).to_pylist():
            if row["value"] is not None:
                self._metafeatures.setdefault((row["dataset"], row["fold"]), {})[row["name"]] = row["value"]
        trials = corpus.table("trials", ["dataset", "fold"]).group_by(["dataset", "fold"]).aggregate([]).to_pylist()
        self._folds_of: dict[str, set[int]] = {}
        for row in trials:
            self._folds_of.setdefault(row["dataset"], set()).add(row["fold"])
        self._read: dict[str, DatasetHistory] = {}

    def of(self, target: str, train: Iterable[str] | None) -> History:
        """The history of `train` for `target`; see `history`."""
        (others,) = folds("lodo", self._families, [target])
        return History(
            training=self.training(others.train if train is None else train),
            target=self._metafeatures.get((target, self._fold), {}),
            target_family=self._families[target],
        )

    def training(self, names: Iterable[str]) -> tuple[DatasetHistory, ...]:
        """The trials of the datasets `names`; UnknownName for one that is not there."""
        return tuple(self._dataset(name) for name in names)

    def _dataset(self, name: str) -> DatasetHistory:
        if name not in self._families:
            raise UnknownName.of("dataset", name, self._families)
        if name not in self._read:
            there = self._folds_of.get(name, {self._fold})
            fold = self._fold if self._fold in there else min(there)
            bench = self._corpus.benchmark(name, kind="tabular", metric=self._metric, fold=fold, seed=self._seed)
            configs = bench.configs or ()
            losses, seconds = (np.full((len(configs), bench.epochs), np.nan) for _ in range(2))
            for row, curve in enumerate(map(bench.curve, configs)):
                losses[row, : curve.epochs_run] = curve.value
                seconds[row, : curve.epochs_run] = curve.seconds
                if curve.stands(bench.epochs) is not None:
                    losses[row, curve.epochs_run :] = curve.value[-1]
                    seconds[row, curve.epochs_run :] = 0.0
            self._read[name] = DatasetHistory(
                dataset=name,
                family=self._families[name],
                metafeatures=self._metafeatures.get((name, fold), {}),
                configs=configs,
                losses=losses,
                seconds=seconds,
            )
        return self._read[name]
