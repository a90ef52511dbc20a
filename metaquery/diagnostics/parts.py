"""The tables of a diagnosis. The docstring of each says its title and, to its reader, what it shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from metaquery.diagnostics.curves import (
    FALL,
    MIN_CURVES,
    UNKNOWN,
    both,
    crossing_share,
    early_regret,
    rank_correlation,
    shapes,
)
from metaquery.diagnostics.fair import compare
from metaquery.diagnostics.forest import MIN_CONFIGS, MIN_R2, importance
from metaquery.diagnostics.source import Source
from metaquery.diagnostics.variance import MIN_DEGREES, beyond_columns, told_apart, within
from metaquery.types import EPOCHLESS_FAMILY, SOUND

Row = dict[str, Any]

MIN_SIDE = 5
"""Fewer trials of a side are no search that could be compared."""


def fidelity(source: Source) -> Iterator[Row]:
    epochs = source.scores.shape[1]
    for dataset, scores in source.curves():
        for epoch in sorted({1, max(1, round(epochs / 9)), max(1, round(epochs / 3))}):
            pairs = both(scores, epoch)
            enough = len(pairs) >= MIN_CURVES
            correlation = rank_correlation(pairs) if enough else UNKNOWN
            crossing = crossing_share(pairs) if enough else UNKNOWN
            yield {
                "dataset": dataset,
                "epoch": epoch,
                "curves": len(pairs),
                "rank_correlation": correlation.value,
                "rank_correlation_low": correlation.low,
                "rank_correlation_high": correlation.high,
                "regret": early_regret(pairs) if enough else math.nan,
                "crossing": crossing.value,
                "crossing_low": crossing.low,
                "crossing_high": crossing.high,
            }


fidelity.__doc__ = f"""What an early epoch tells.

Over the curves of a dataset that reached the last epoch, of all backbones together: Spearman's correlation of the
validation score at an epoch with the last one; the regret, what is lost at the end by going on with the best at that
epoch alone; the share of pairs of curves that cross, that is, change their order until the end. With 95 % intervals
over configs. Too few are fewer than {MIN_CURVES} curves.
"""


def ill_behaved(source: Source) -> Iterator[Row]:
    for dataset, scores in source.curves():
        found = shapes(scores)
        enough = found.complete >= MIN_CURVES
        shares = {name: value if enough else math.nan for name, value in found._asdict().items() if name != "complete"}
        yield {"dataset": dataset, "curves": len(scores), "complete": found.complete, **shares}


ill_behaved.__doc__ = f"""Curves that are not well-behaved.

Of the curves that ran to the end (complete), the share whose best epoch is before the last (peaked, which noise alone
can make), that end more than {FALL} below their best (fell), and that are never better than after their first epoch
(stuck). Curves that did not run to the end are under How trials ended. Too few are fewer than {MIN_CURVES} curves.
"""


def noise(source: Source) -> Iterator[Row]:
    import polars as pl

    main = {dataset: set(trials["row"].to_list()) for dataset, trials in source.by_dataset()}
    for metric in source.metrics:
        judged = source.judged(metric)
        for dataset, rows in main.items():
            for split in ("val", "test"):
                here = judged.filter(pl.col("dataset") == dataset, pl.col(split).is_finite())
                configs = here.filter(pl.col("row").is_in(list(rows)))[split].to_numpy()
                effect = float(configs.std(ddof=1)) if len(configs) >= MIN_CURVES else math.nan
                seeds, folds = (  # those of a config that share the fold differ in the seed, and the other way round
                    within(
                        [part[split].to_numpy() for _, part in here.group_by("config_id", same, maintain_order=True)]
                    )
                    for same in ("fold", "seed")
                )
                several = here.filter(pl.col("fold").n_unique().over("config_id", "seed") > 1)
                own = beyond_columns(
                    several[split].to_numpy(),
                    several.select("config_id", "seed").rows(),
                    several.select("fold", "seed").rows(),
                )
                yield {
                    "dataset": dataset,
                    "metric": metric.name,
                    "split": split,
                    "configs": len(configs),
                    "config_deviation": effect,
                    "seed_deviation": seeds.deviation,
                    "seed_low": seeds.low,
                    "seed_high": seeds.high,
                    "seed_degrees": seeds.degrees,
                    "seed_share_of_variance": (seeds.deviation / effect) ** 2 if effect else math.nan,
                    "told_apart": told_apart(configs, seeds.deviation),
                    "fold_deviation": folds.deviation,
                    "fold_low": folds.low,
                    "fold_high": folds.high,
                    "fold_degrees": folds.degrees,
                    "fold_own_deviation": own.deviation,
                    "fold_own_degrees": own.degrees,
                }


noise.__doc__ = f"""Noise against the effect of the configuration.

Standard deviations of a trial's value at its best validation epoch, by metric, on validation and on test: over configs,
over seeds of the same config and fold, and over folds of the same config and seed, each of the last two with its 95 %
interval (chi-squared) and the degrees of freedom that it rests on. A fold changes the data that all configs are judged
on; what it does to a config beyond that (fold_own) is what changes their order. From one run each, this share of the
variance between configs is noise of the seed (seed_share_of_variance), and this share of the pairs of configs differs
by more than that noise does in 95 % of cases (told_apart). Too few are fewer than {MIN_DEGREES} degrees of freedom, or
{MIN_CURVES} configs.
"""


def selection(source: Source) -> Iterator[Row]:
    import polars as pl

    for dataset, trials in source.by_dataset():
        finite = trials.filter(pl.col("val").is_finite() & pl.col("test").is_finite())
        val, test = (finite[name].to_numpy() for name in ("val", "test"))
        enough = len(val) >= MIN_CURVES
        best = np.argsort(-val, kind="stable")[: len(val) // 10]
        correlation = rank_correlation(np.stack([val, test], axis=1)) if enough else UNKNOWN
        gap = val - test
        yield {
            "dataset": dataset,
            "configs": len(val),
            "rank_correlation": correlation.value,
            "rank_correlation_low": correlation.low,
            "rank_correlation_high": correlation.high,
            "gap": float(gap.mean()) if enough else math.nan,
            "gap_deviation": float(gap.std(ddof=1)) if enough else math.nan,
            "gap_of_best_tenth": float(gap[best].mean()) if enough else math.nan,
            "best_tenth": len(best),
            "test_regret_of_selected": float(test.max() - test[val == val.max()].mean()) if enough else math.nan,
        }


selection.__doc__ = f"""From validation to test.

At the best validation epoch of each trial: Spearman's correlation of validation and test over configs, with its 95 %
interval; validation minus test, mean and standard deviation over configs, and its mean over the best tenth on
validation, which selection flatters most; and what the config chosen on validation loses on test against the best one
there. Positive gaps mean that validation promises too much. All configs of a dataset share their validation and test
samples, so that a gap has a part that is theirs, which no number of configs makes smaller. Too few are fewer than
{MIN_CURVES} configs.
"""


def hyperparameters(source: Source) -> Iterator[Row]:
    import polars as pl

    space = source.corpus.space
    for dataset, trials in source.by_dataset():
        scored = trials.filter(pl.col("val").is_finite())
        settings = scored.select([name for name in space.by_name if name in scored.columns]).to_dicts()
        found = importance(space, settings, scored["val"].to_numpy())
        for name, share in sorted(found.shares.items(), key=lambda item: (math.isnan(item[1]), -item[1], item[0])):
            active = sum(setting[name] is not None for setting in settings)
            yield {
                "dataset": dataset,
                "hyperparameter": name,
                "share": share,
                "active": active,
                "configs": len(settings),
                "r2": found.r2,
            }


hyperparameters.__doc__ = f"""Which hyperparameters matter.

By dataset, like a functional ANOVA: a random forest learns the best validation score from the config, over all configs
that were run; the share of the variance of its predictions that a hyperparameter accounts for alone is its main effect.
The rest is interactions. A conditional one is judged over the configs in which it is active. How well the forest knows
the table is r2, the share of the variance of scores that it explains of configs that its trees have not seen. Too few
are fewer than {MIN_CONFIGS} active configs; with an r2 below {MIN_R2} the forest knows too little to be asked.
"""


def pretraining(source: Source) -> Iterator[Row]:
    import polars as pl

    for dataset, trials in source.by_dataset():
        networks = pl.col("family") != EPOCHLESS_FAMILY
        here = trials.filter(networks & pl.col("val").is_finite() & pl.col("test").is_finite())
        sides = [here.filter(pl.col("pretrained_on").is_not_null() == pretrained) for pretrained in (True, False)]
        row: Row = {"dataset": dataset}
        for name, side in zip(("pretrained", "scratch"), sides, strict=True):
            row[f"{name}_backbones"] = side["backbone"].n_unique()
            row[f"{name}_trials"] = len(side)
            row[f"{name}_seconds"] = side["last_seconds"].median()
        drawn = min(map(len, sides))
        row["drawn"] = drawn
        names = ("pretrained_test", "scratch_test", "pretrained_ahead", "pretrained_ahead_untuned")
        if drawn < MIN_SIDE:
            yield row | dict.fromkeys(names)
            continue
        val, test = ((sides[0][name].to_numpy(), sides[1][name].to_numpy()) for name in ("val", "test"))
        tuned, untuned = (compare(val, test, number) for number in (drawn, 1))
        expected = (source.metric.from_loss(-score) for score in (tuned.first, tuned.second))
        values = (*expected, tuned.ahead, untuned.ahead)
        yield row | dict(zip(names, values, strict=True))


pretraining.__doc__ = f"""Pretrained against scratch.

The best of pretrained networks against the best of networks from random weights, after the same number of trials: each
side draws as many trials (drawn) as the smaller side has, without replacement, chooses the best on validation, and is
judged by its test value; expected values and the probability that the pretrained one is ahead (ties count half), over
all draws. Untuned: one trial each. Architectures, sizes and median seconds of a trial differ between the sides, so that
this compares what a portfolio offers and not weights alone; members without epochs do not count. Too few are fewer than
{MIN_SIDE} trials of a side.
"""


def cost(source: Source) -> Iterator[Row]:
    """What trials cost.

    Seconds of a whole trial by dataset and backbone, alone on its device: the cheapest, the median and the dearest of
    the trials that ran to the end or stopped early by their own rule. Those that did not are counted as unfinished;
    where they timed out, the true spread is wider.
    """
    import polars as pl

    whole = pl.col("status").is_in(SOUND)
    key = ("dataset", "backbone")
    for names, trials in sorted(source.trials.group_by(*key), key=lambda item: item[0]):
        seconds = trials.filter(whole & pl.col("last_seconds").is_not_null())["last_seconds"]
        yield dict(zip(key, names, strict=True)) | {
            "trials": len(seconds),
            "unfinished": int(trials.select((~whole).sum()).item()),
            "least": seconds.min(),
            "median": seconds.median(),
            "most": seconds.max(),
        }


def failures(source: Source) -> Iterator[Row]:
    """How trials ended.

    By status and cause, the last line of what they said with its numbers left out: trials, their share of all, and how
    many datasets and backbones they are of.
    """
    import polars as pl

    cause = pl.col("error").str.replace_all(r"\d+(\.\d+)?", "N").alias("cause")
    counted = source.trials.group_by("status", cause).agg(
        pl.len().alias("trials"), pl.col("dataset").n_unique().alias("datasets"), pl.col("backbone").n_unique()
    )
    for status, said, trials, datasets, backbones in counted.sort(
        "trials", "status", "cause", descending=[True, False, False]
    ).iter_rows():
        yield {
            "status": status,
            "cause": said,
            "trials": trials,
            "share": trials / len(source.trials),
            "datasets": datasets,
            "backbones": backbones,
        }


PARTS: dict[str, Callable[[Source], Iterator[Row]]] = {
    "fidelity": fidelity,
    "shapes": ill_behaved,
    "noise": noise,
    "selection": selection,
    "importance": hyperparameters,
    "pretraining": pretraining,
    "cost": cost,
    "failures": failures,
}
"""The tables by the names of their files, in order."""
