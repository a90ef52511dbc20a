"""What the diagnostics read of a corpus."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from metaquery.metrics import METRICS, Metric
from metaquery.result import Result
from metaquery.types import EPOCHLESS_FAMILY

if TYPE_CHECKING:
    import polars as pl

    from metaquery.corpus import Corpus

Floats = NDArray[np.float64]


class Source:
    """The trials of `corpus`, one row each with its config, and the scores of their epochs by `metric`."""

    def __init__(self, corpus: Corpus, metric: Metric) -> None:
        self.corpus, self.metric = corpus, metric

    @cached_property
    def metrics(self) -> list[Metric]:
        """The metrics that the corpus has validation values of, the judged one first."""
        curves = self.corpus.table("curves", [f"val_{name}" for name in METRICS])
        known = [
            each
            for each, column in zip(METRICS.values(), curves.columns, strict=True)
            if column.null_count < len(curves)
        ]
        return sorted(known, key=lambda each: (each.name != self.metric.name, each.name))

    @cached_property
    def trials(self) -> pl.DataFrame:
        """The trials with backbones, configs and errors; `val` and `test` are scores (losses with their sign turned) at
        the best epoch on validation, NaN without one; `row` is the place in `scores`."""
        configs = Result(self.corpus.table("configs")).polars()
        backbones = Result(self.corpus.table("backbones", ["backbone", "family", "pretrained_on"])).polars()
        error = Result(self.corpus.table("trials", ["trial_id", "error"])).polars()
        joined = self.judged(self.metric).join(configs, on="config_id").join(backbones, on="backbone")
        return joined.join(error, on="trial_id").sort("row")

    def judged(self, metric: Metric) -> pl.DataFrame:
        """The summary of the trials by `metric`, with `row`, `val` and `test` as in `trials`."""
        import polars as pl

        summary = Result(self.corpus.summary(metric.name)).polars().with_row_index("row")
        values = {split: summary[f"best_{split}"].cast(pl.Float64).to_numpy() for split in ("val", "test")}
        return summary.with_columns(pl.Series(split, -metric.to_loss(value)) for split, value in values.items())

    @cached_property
    def scores(self) -> Floats:
        """Validation scores (n, epochs), losses with their sign turned, NaN from where a trial ended."""
        return -self.metric.to_loss(self.corpus.dense(f"val_{self.metric.name}").astype(np.float64))

    def by_dataset(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """The trials of each dataset at the fold and seed that has the most of them, the first of equals."""
        import polars as pl

        for name in self.corpus.datasets:
            mine = self.trials.filter(pl.col("dataset") == name)
            counts = mine.group_by("fold", "seed").len().sort("len", "fold", "seed", descending=[True, False, False])
            for fold, seed, _ in counts.head(1).iter_rows():
                yield name, mine.filter(pl.col("fold") == fold, pl.col("seed") == seed)

    def curves(self) -> Iterator[tuple[str, Floats]]:
        """The scores (n, epochs) of the trials of `by_dataset` that have epochs."""
        import polars as pl

        for name, trials in self.by_dataset():
            yield name, self.scores[trials.filter(pl.col("family") != EPOCHLESS_FAMILY)["row"].to_numpy()]
