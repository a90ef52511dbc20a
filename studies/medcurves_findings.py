"""The tables of studies/medcurves-1.0.md, from the corpus.

Usage: python studies/medcurves_findings.py SOURCE

A trial is chosen among others by its best validation AUC and judged by the test AUC of that epoch. Trials are those of
the first fold and seed that ran to their end.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

import metaquery as mq
from metaquery.evaluation.measures.aggregate import bootstrap_interval
from metaquery.metrics import auc
from metaquery.types import EPOCHLESS_FAMILY

Floats = NDArray[np.float64]

WAYS = ("full fine-tuning", "some stages frozen", "linear probe", "random weights", "radiomics")
BUDGETS = (5, 15, 60, 200)  # seconds of one trial
RESAMPLES = 500


def trials(corpus: mq.Corpus) -> pl.DataFrame:
    """One row per trial, with its backbone, `way` of training, `val` and `test` AUC at its best epoch, `seconds`."""
    summary = mq.Result(corpus.summary("auc")).polars()
    configs = mq.Result(corpus.table("configs")).polars()
    backbones = mq.Result(corpus.table("backbones", ["backbone", "family", "pretrained_on", "n_dims"])).polars()
    frozen = pl.col("freeze").fill_null(0.0)
    way = (
        pl.when(pl.col("family") == EPOCHLESS_FAMILY)
        .then(pl.lit("radiomics"))
        .when(pl.col("pretrained_on").is_null())
        .then(pl.lit("random weights"))
        .when(frozen == 1)
        .then(pl.lit("linear probe"))
        .when(frozen > 0)
        .then(pl.lit("some stages frozen"))
        .otherwise(pl.lit("full fine-tuning"))
    )
    joined = summary.join(configs, on="config_id").join(backbones, on="backbone")
    named = joined.rename({"best_val": "val", "best_test": "test", "total_seconds": "seconds"})
    return named.with_columns(way=way).filter(pl.col("status") == "completed")


def first(every: pl.DataFrame) -> pl.DataFrame:
    """Those of the first fold and seed."""
    return every.filter(pl.col("fold") == pl.col("fold").min(), pl.col("seed") == pl.col("seed").min())


def chosen(group: pl.DataFrame, by: str | Sequence[str]) -> pl.DataFrame:
    """Of every group of trials the one with the best validation AUC, the cheaper one on ties."""
    ranked = group.sort(["val", "seconds", "trial_id"], descending=[True, False, False])
    return ranked.group_by(by, maintain_order=True).first()


def resampled(corpus: mq.Corpus, dataset: str, fold: int, trial_ids: Sequence[str]) -> Floats:
    """Test AUC of trials of one dataset and fold on bootstrap samples of the groups (patients, where they are known) of
    its test part, the same for all trials: (trials, RESAMPLES)."""
    part = mq.Result(corpus.table("splits")).polars().filter(dataset=dataset, fold=fold, role="test").sort("sample")
    rows = [group["row"].to_numpy() for _, group in part.with_row_index("row").group_by("group", maintain_order=True)]
    rng = np.random.default_rng(0)
    draws = [np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))]) for _ in range(RESAMPLES)]
    parts = [corpus.predictions(trial_id, split="test", epoch="best") for trial_id in trial_ids]
    return np.array([[auc(y[draw], p[draw]) for draw in draws] for y, p in parts])


def limits(values: Floats) -> str:
    """The middle 95 % of resampled values."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return f"{low:.3f} to {high:.3f}"


def mean(values: Iterable[float]) -> str:
    """Mean over datasets with its bootstrap interval, and over how many."""
    array = np.array(list(values), np.float64)
    if len(array) < 2:
        return "too few" if not len(array) else f"{array[0]:.3f} (1)"
    low, high = bootstrap_interval(array)
    return f"{array.mean():z.3f} [{low:z.3f}, {high:z.3f}] ({len(array)})"


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def winners(corpus: mq.Corpus, here: pl.DataFrame) -> Iterator[list[object]]:
    """By dataset: the trial chosen among all, and the backbones whose own choice its test AUC cannot be told from."""
    for (dataset,), mine in sorted(here.group_by("dataset"), key=lambda item: str(item[0][0])):
        best = chosen(mine, "backbone").sort("val", descending=True)
        values = resampled(corpus, dataset, best["fold"][0], best["trial_id"].to_list())
        level = [np.nanpercentile(values[0] - other, 2.5) <= 0 for other in values[1:]]
        row = best.row(0, named=True)
        yield [
            *(dataset, f"`{row['backbone']}`", row["way"], len(mine), f"{row['val']:.3f}"),
            *(f"{row['test']:.3f} ({limits(values[0])})", f"{row['seconds']:.0f}", f"{sum(level)} of {len(level)}"),
        ]


def by_way(here: pl.DataFrame) -> Iterator[list[object]]:
    """By dataset: test AUC of the trial chosen among those trained in each way, with their number."""
    for (dataset,), mine in sorted(here.group_by("dataset"), key=lambda item: str(item[0][0])):
        best = {row["way"]: row["test"] for row in chosen(mine, "way").iter_rows(named=True)}
        count = dict(mine.group_by("way").len().iter_rows())
        yield [dataset, *(f"{best[way]:.3f} ({count[way]})" if way in best else "-" for way in WAYS)]


def against_probe(here: pl.DataFrame) -> Iterator[list[object]]:
    """Test AUC of the choice of each way less that of the linear probe, over datasets."""
    best = chosen(here, ["dataset", "n_dims", "way"])
    probe = best.filter(pl.col("way") == "linear probe").select("dataset", probe="test", probe_seconds="seconds")
    paired = best.join(probe, on="dataset").filter(pl.col("way") != "linear probe")
    for way in WAYS:
        mine = paired.filter(pl.col("way") == way)
        if len(mine):
            gaps = [mine.filter(pl.col("n_dims") == n) for n in (2, 3)]
            ratio = (mine["seconds"] / mine["probe_seconds"]).median()
            yield [way, *(mean((gap["test"] - gap["probe"]).to_list()) for gap in gaps), f"{ratio:.1f}"]


def by_budget(here: pl.DataFrame) -> Iterator[list[object]]:
    """By the most that one trial may cost: mean test AUC of the choice among those, and the ways that were chosen."""
    for n_dims in (2, 3):
        mine = here.filter(pl.col("n_dims") == n_dims)
        everything = dict(chosen(mine, "dataset").select("dataset", "test").iter_rows())
        for budget in BUDGETS:
            best = chosen(mine.filter(pl.col("seconds") <= budget), "dataset")
            lost = [everything[dataset] - test for dataset, test in best.select("dataset", "test").iter_rows()]
            ways = best["way"].value_counts(sort=True).iter_rows()
            said = ", ".join(f"{way} {count}" for way, count in ways)
            yield [f"{n_dims}-D", budget, len(best), mean(best["test"].to_list()), mean(lost), said]


def probes(here: pl.DataFrame) -> Iterator[list[object]]:
    """By pretrained backbone: its chosen linear probe less the mean of all backbones' on the same dataset."""
    best = chosen(here.filter(pl.col("way") == "linear probe"), ["dataset", "n_dims", "backbone"])
    centred = best.with_columns(gap=pl.col("test") - pl.col("test").mean().over("dataset"))
    order = centred.group_by("n_dims", "backbone").agg(pl.col("gap").mean(), pl.col("seconds").median())
    for n_dims, backbone, _, seconds in order.sort(["n_dims", "gap"], descending=[False, True]).iter_rows():
        mine = centred.filter(pl.col("n_dims") == n_dims, pl.col("backbone") == backbone)
        yield [f"{n_dims}-D", f"`{backbone}`", mean(mine["gap"].to_list()), f"{seconds:.1f}"]


def matched(every: pl.DataFrame) -> Iterator[list[object]]:
    """Full fine-tuning less linear probe where all else is equal, by backbone."""
    names = ["dataset", "fold", "seed", "backbone", "optimizer", "lr", "batch_size", "augmentation", "weight_decay"]
    grid = every.filter(pl.col("design") == "grid")
    sides = [grid.filter(pl.col("way") == way).select(*names, "test") for way in ("full fine-tuning", "linear probe")]
    pairs = sides[0].join(sides[1], on=names, suffix="_probe")
    for (backbone,), mine in sorted(pairs.group_by("backbone"), key=lambda item: str(item[0][0])):
        gaps = mine.group_by("dataset").agg((pl.col("test") - pl.col("test_probe")).mean().alias("gap"))
        yield [f"`{backbone}`", len(mine), mean(gaps.sort("dataset")["gap"].to_list())]


def tables(corpus: mq.Corpus) -> list[str]:
    """All tables of the page, in its order."""
    every = trials(corpus)
    here = first(every)
    judged = "test AUC (95 %)"
    header = ["dataset", "backbone", "way", "trials", "validation AUC", judged, "seconds", "backbones level with it"]
    return [
        markdown(header, winners(corpus, here)),
        markdown(["dataset", *WAYS], by_way(here)),
        markdown(["way, less linear probe", "2-D", "3-D", "times its cost"], against_probe(here)),
        markdown(["backbone", "pairs", "full fine-tuning less linear probe"], matched(every)),
        markdown(["", "seconds a trial", "datasets", "test AUC", "lost to no limit", "chosen"], by_budget(here)),
        markdown(["", "backbone", "linear probe less the mean of all", "seconds"], probes(here)),
    ]


if __name__ == "__main__":
    print("\n\n".join(tables(mq.open(sys.argv[1]))))
