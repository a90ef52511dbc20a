"""The history that an optimizer may learn from, made from the tables of a corpus."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from metaquery.errors import UnknownName
from metaquery.evaluation.protocols import Fold, Protocol, folds, traits
from metaquery.optimizers.history import DatasetHistory, History

if TYPE_CHECKING:
    from metaquery.corpus import Corpus


def history(
    corpus: Corpus,
    target: str,
    train: Sequence[str] | None = None,
    validation: Sequence[str] | None = None,
    *,
    metric: str | None = None,
    fold: int = 0,
    seed: int = 0,
) -> History:
    """The trials of the datasets `train` (by default of all other families), for an optimizer to run on `target`.

    Those of the datasets `validation` are for early stopping and the like. `metric` is the corpus's `default_metric`
    unless given. Raises UnknownName for a dataset that is not there, and LeakageError where two of target, training and
    validation datasets share a family.
    """
    (plan,) = folds(Protocol.load("lodo"), traits(corpus), [target], train, validation)
    return Histories(corpus, metric, fold, seed).of(plan)


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
        self._traits = traits(corpus)
        self._metafeatures: dict[tuple[str, int], dict[str, float]] = {}
        for row in corpus.table("metafeatures", ["dataset", "fold", "name", "value"]).to_pylist():
            if row["value"] is not None:
                self._metafeatures.setdefault((row["dataset"], row["fold"]), {})[row["name"]] = row["value"]
        trials = corpus.table("trials", ["dataset", "fold"]).group_by(["dataset", "fold"]).aggregate([]).to_pylist()
        self._folds_of: dict[str, set[int]] = {}
        for row in trials:
            self._folds_of.setdefault(row["dataset"], set()).add(row["fold"])
        self._read: dict[str, DatasetHistory] = {}

    @property
    def datasets(self) -> Collection[str]:
        """The datasets that have trials."""
        return self._folds_of.keys()

    def of(self, plan: Fold) -> History:
        """What the fold `plan` of a protocol lets an optimizer learn from."""
        return History(
            training=self.training(plan.train),
            target=self._metafeatures.get((plan.test, self._fold), {}),
            target_family=self._traits[plan.test].family,
            validation=self.training(plan.validation),
        )

    def training(self, names: Iterable[str]) -> tuple[DatasetHistory, ...]:
        """The trials of the datasets `names`; UnknownName for one that is not there."""
        return tuple(self._dataset(name) for name in names)

    def _dataset(self, name: str) -> DatasetHistory:
        if name not in self._traits:
            raise UnknownName.of("dataset", name, self._traits)
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
                family=self._traits[name].family,
                metafeatures=self._metafeatures.get((name, fold), {}),
                configs=configs,
                losses=losses,
                seconds=seconds,
            )
        return self._read[name]
