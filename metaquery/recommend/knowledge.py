"""What a corpus knows about configs on datasets of one dimension, as complete matrices of dataset by config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidInput
from metaquery.metrics import Metric, metric
from metaquery.space import Config, SearchSpace
from metaquery.types import Split

if TYPE_CHECKING:
    from metaquery.corpus import Corpus

Floats = NDArray[np.float64]

SAMPLES = "n_train"  # the meta-feature that costs are scaled by


@dataclass(frozen=True, eq=False)
class Knowledge:
    """Datasets of `n_dims` dimensions and the configs that some of them have, n and m of them.

    `ran`, (n, m), says which configs a dataset has trials of. `score`, (n, m), is the validation loss at the best epoch
    on the scale of the dataset, 0 for its best config and 1 for its worst or for a failure. `value`, (n, m), is the
    metric on `judged`, at the epoch that is best on validation. `seconds`, (n, m), are those of a whole training per
    training sample, NaN where the corpus has no costs or no sample counts. A value that was not measured is that of a
    forest that was fitted to the trials of the same dataset alone. `features`, (n, names), are meta-features, NaN where
    they are missing.
    """

    n_dims: int
    metric: Metric
    judged: Split
    space: SearchSpace
    datasets: tuple[str, ...]
    families: tuple[str, ...]
    devices: tuple[str, ...]
    configs: tuple[Config, ...]
    ran: NDArray[np.bool_]
    score: Floats
    value: Floats
    seconds: Floats
    names: tuple[str, ...]
    features: Floats

    def without(self, family: str, dataset: str = "") -> Knowledge:
        """The same without the datasets of `family`, and without `dataset`."""
        pairs = zip(self.datasets, self.families, strict=True)
        return self._rows([i for i, (name, its) in enumerate(pairs) if its != family and name != dataset])

    def _rows(self, rows: list[int]) -> Knowledge:
        names = ("datasets", "families", "devices")
        arrays = ("ran", "score", "value", "seconds", "features")
        parts: dict[str, Any] = {name: tuple(getattr(self, name)[i] for i in rows) for name in names}
        return replace(self, **parts, **{name: getattr(self, name)[rows] for name in arrays})


def read_knowledge(corpus: Corpus, n_dims: int) -> Knowledge:
    """What `corpus` knows, by its default metric; InvalidInput where it has no trial of so many dimensions.

    Several folds and seeds of a config on a dataset count as their mean, in which a failure has the worst value of the
    dataset.
    """
    from metaquery.surrogates.trials import configs_of

    measure = metric(corpus.default_metric)
    families = {
        row["dataset"]: row["family"]
        for row in corpus.table("datasets", ["dataset", "family", "n_dims"]).to_pylist()
        if row["n_dims"] == n_dims
    }
    trials = [row for row in corpus.summary(measure.name).to_pylist() if row["dataset"] in families]
    datasets = sorted({row["dataset"] for row in trials if row["best_val"] is not None})
    if not datasets:
        raise InvalidInput(f"{corpus.name} has no trial of a {n_dims}-D dataset: give a corpus of such datasets")
    judged: Split = "val" if all(row["best_test"] is None for row in trials) else "test"
    ids = sorted({row["config_id"] for row in trials if row["dataset"] in datasets})
    known = configs_of(corpus)
    shape = (len(datasets), len(ids))
    values = {name: _means(trials, datasets, ids, f"best_{name}", measure) for name in ("val", judged)}
    ran = np.zeros(shape, bool)
    for row in trials:
        if row["dataset"] in datasets:
            ran[datasets.index(row["dataset"]), ids.index(row["config_id"])] = True
    names, features = _features(corpus, datasets)
    configs = tuple(known[config_id] for config_id in ids)
    complete = _Complete(corpus.space, configs)
    loss = complete(-values["val"] if measure.direction == "maximize" else values["val"])
    low, high = (_extreme(loss, ran, end)[:, None] for end in (np.min, np.max))
    samples = features[:, names.index(SAMPLES)] if SAMPLES in names else np.full(len(datasets), np.nan)
    seconds = _means(trials, datasets, ids, "last_seconds", None) / samples[:, None]
    devices = dict(zip(*(corpus.table("trials", ["dataset", "device"])[n].to_pylist() for n in ("dataset", "device"))))
    return Knowledge(
        n_dims=n_dims,
        metric=measure,
        judged=judged,
        space=corpus.space,
        datasets=tuple(datasets),
        families=tuple(families[name] for name in datasets),
        devices=tuple(devices[name] or "an unknown device" for name in datasets),
        configs=configs,
        ran=ran,
        score=np.clip((loss - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0),
        value=complete(values[judged]),
        seconds=np.exp(complete(np.log(seconds))),
        names=names,
        features=features,
    )


def _means(
    trials: Sequence[dict[str, Any]], datasets: list[str], ids: list[str], column: str, measure: Metric | None
) -> Floats:
    """Mean of `column` by dataset and config; a missing value is the worst of the dataset by `measure`, or left out."""
    row_of, column_of = ({name: i for i, name in enumerate(names)} for names in (datasets, ids))
    total, count = np.zeros((2, len(datasets), len(ids)))
    here = [row for row in trials if row["dataset"] in row_of]
    worst: dict[str, float] = {}
    if measure is not None:
        end = min if measure.direction == "maximize" else max
        for row in here:
            if row[column] is not None:
                worst[row["dataset"]] = end(row[column], worst.get(row["dataset"], row[column]))
    for row in here:
        value = worst.get(row["dataset"]) if row[column] is None else row[column]
        if value is not None:
            place = row_of[row["dataset"]], column_of[row["config_id"]]
            total[place] += value
            count[place] += 1
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _extreme(values: Floats, ran: NDArray[np.bool_], end: Any) -> Floats:
    return np.array([end(row[there]) for row, there in zip(values, ran, strict=True)])


def _features(corpus: Corpus, datasets: list[str]) -> tuple[tuple[str, ...], Floats]:
    """Names and values of the meta-features, those of the first fold of each dataset."""
    found: dict[str, dict[str, float]] = {name: {} for name in datasets}
    table = corpus.table("metafeatures", ["dataset", "fold", "name", "value"])
    for row in sorted(table.to_pylist(), key=lambda row: -row["fold"]):
        if row["dataset"] in found and row["value"] is not None:
            found[row["dataset"]][row["name"]] = row["value"]
    names = tuple(sorted({name for values in found.values() for name in values}))
    return names, np.array([[found[d].get(name, np.nan) for name in names] for d in datasets]).reshape(
        len(datasets), -1
    )


class _Complete:
    """Fills the gaps of a matrix of dataset by config, each row from itself alone."""

    def __init__(self, space: SearchSpace, configs: Sequence[Config]) -> None:
        self._inputs = np.array([_inputs(space, config) for config in configs])

    def __call__(self, values: Floats) -> Floats:
        from sklearn.ensemble import ExtraTreesRegressor

        filled = values.copy()
        for row in filled:
            known = np.isfinite(row)
            if known.any() and not known.all():
                forest = ExtraTreesRegressor(100, min_samples_leaf=2, max_features=0.5, random_state=0)
                row[~known] = forest.fit(self._inputs[known], row[known]).predict(self._inputs[~known])
        return filled


def _inputs(space: SearchSpace, config: Config) -> list[float]:
    """`config` as numbers for trees: places in the unit interval, -1 where inactive, and one column for each choice."""
    found = []
    for hp in space.hyperparameters:
        value = config.get(hp.name)
        if hp.kind == "categorical":
            found += [float(value == choice) for choice in hp.choices]
        else:
            found.append(-1.0 if value is None else hp.to_unit(value))
    return found
