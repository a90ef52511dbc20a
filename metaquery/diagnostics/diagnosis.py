"""The diagnostics of a corpus, as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaquery.diagnostics.curves import FALL, crossing_share, early_regret, rank_correlation, shapes
from metaquery.diagnostics.variance import importance, pooled_deviation
from metaquery.metrics import Metric
from metaquery.metrics import metric as metric_called
from metaquery.outputs import new_directory
from metaquery.result import Result
from metaquery.types import EPOCHLESS_FAMILY

if TYPE_CHECKING:
    import polars as pl

    from metaquery.corpus import Corpus

Floats = NDArray[np.float64]
Row = dict[str, Any]

PAGE = "index.html"
NOTHING = "The corpus cannot tell."
_KEY = ("dataset", "backbone")


@dataclass(frozen=True)
class Part:
    """One table of a diagnosis, and what it says."""

    title: str
    about: str
    result: Result


@dataclass(frozen=True)
class Diagnosis:
    """The diagnostics of a corpus by one metric: tables by name, in order."""

    corpus: str
    metric: str
    parts: dict[str, Part]

    def __str__(self) -> str:
        texts = [f"{self.corpus}, by {self.metric}"]
        for part in self.parts.values():
            texts.append(f"{part.title}. {part.about}\n\n{part.result if len(part.result) else NOTHING}")
        return "\n\n".join(texts)

    def write(self, directory: Path) -> Path:
        """Write every table as CSV and a page with figures to `directory`; the path of the page.

        Raises InvalidInput where the directory holds something else.
        """
        from metaquery.diagnostics.page import page

        entries = frozenset({PAGE, *(f"{name}.csv" for name in self.parts)})
        with new_directory(directory, marker=PAGE, entries=entries) as new:
            for name, part in self.parts.items():
                part.result.write("csv", new / f"{name}.csv")
            (new / PAGE).write_text(page(self))
        return directory / PAGE


def diagnose(corpus: Corpus, metric: str | None = None) -> Diagnosis:
    """The diagnostics of `corpus` by the validation values of `metric`, by default the corpus's `default_metric`.

    What a corpus cannot tell, such as the noise of seeds where none was repeated, is null.
    """
    source = _Source(corpus, metric_called(metric or corpus.default_metric))
    parts: dict[str, Callable[[_Source], Iterator[Row]]] = {
        "fidelity": _fidelity,
        "shapes": _shapes,
        "noise": _noise,
        "selection": _selection,
        "importance": _importance,
        "pretraining": _pretraining,
        "cost": _cost,
        "failures": _failures,
    }
    return Diagnosis(
        f"{corpus.name} {corpus.version}",
        source.metric.name,
        {name: _part(find, source) for name, find in parts.items()},
    )


class _Source:
    """What the diagnostics read: one row per trial with its config, and the scores of its epochs."""

    def __init__(self, corpus: Corpus, metric: Metric) -> None:
        self.corpus, self.metric = corpus, metric
        self.sign = 1.0 if metric.direction == "maximize" else -1.0

    @cached_property
    def trials(self) -> pl.DataFrame:
        """The summary of the trials with their backbones, configs and designs, and `row`, their place in `scores`."""
        import polars as pl

        summary = Result(self.corpus.summary(self.metric.name)).polars().with_row_index("row")
        configs = Result(self.corpus.table("configs")).polars()
        backbones = Result(self.corpus.table("backbones", ["backbone", "family", "pretrained_on"])).polars()
        error = Result(self.corpus.table("trials", ["trial_id", "error"])).polars()
        joined = summary.join(configs, on="config_id").join(backbones, on="backbone").join(error, on="trial_id")
        return joined.with_columns(pretrained=pl.col("pretrained_on").is_not_null()).sort("row")

    @cached_property
    def scores(self) -> Floats:
        """Validation scores (n, epochs), the larger the better; a trial that ended early keeps its records alone."""
        return self.sign * self.corpus.dense(f"val_{self.metric.name}").astype(np.float64)

    def by_dataset(self, *, curves: bool = False) -> Iterator[tuple[str, pl.DataFrame]]:
        """The trials of each dataset at its first fold and seed; only those with epochs where `curves` are asked."""
        import polars as pl

        here = self.trials.filter(pl.col("family") != EPOCHLESS_FAMILY) if curves else self.trials
        for name in sorted(here["dataset"].unique()):
            mine = here.filter(pl.col("dataset") == name)
            yield name, mine.filter(pl.col("fold") == mine["fold"].min(), pl.col("seed") == mine["seed"].min())


def _part(find: Callable[[_Source], Iterator[Row]], source: _Source) -> Part:
    import pyarrow as pa

    title, _, about = (find.__doc__ or "").partition("\n\n")
    rows = [
        {name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in row.items()}
        for row in find(source)
    ]
    return Part(title.rstrip("."), " ".join(about.split()), Result(pa.Table.from_pylist(rows)))


def _fidelity(source: _Source) -> Iterator[Row]:
    """What an early epoch tells.

    Over the configs of a dataset: Spearman's correlation of the validation score at an epoch with the last one; what is
    lost at the end by going on with the best at that epoch alone; the share of pairs of curves that change their order.
    """
    epochs = source.scores.shape[1]
    early = sorted({max(1, round(epochs / 3**power)) for power in range(1, 4)})
    for dataset, trials in source.by_dataset(curves=True):
        scores = source.scores[trials["row"].to_numpy()]
        for epoch in early:
            yield {
                "dataset": dataset,
                "epoch": epoch,
                "curves": len(scores),
                "rank_correlation": rank_correlation(scores, epoch),
                "regret": early_regret(scores, epoch),
                "crossing": crossing_share(scores, epoch),
            }


def _shapes(source: _Source) -> Iterator[Row]:
    for dataset, trials in source.by_dataset(curves=True):
        found = shapes(source.scores[trials["row"].to_numpy()])
        yield {"dataset": dataset, "curves": len(trials), **found._asdict()}


_shapes.__doc__ = f"""Curves that are not well-behaved.

Of the curves that ran to the end, the share whose best epoch is before the last (peaked), that end more than {FALL}
below their best (fell), and that are never better than after their first epoch (stuck).
"""


def _noise(source: _Source) -> Iterator[Row]:
    """Noise against the effect of the configuration.

    Standard deviations of the best validation score of a trial: over configs, over seeds of the same config and fold,
    and over folds of the same config and seed, with the degrees of freedom that the last two rest on. Differences
    between configs that are smaller than the noise of seeds mean nothing.
    """
    import polars as pl

    scored = source.trials.with_columns(score=source.sign * pl.col("best_val")).filter(pl.col("score").is_not_null())
    for dataset, first in source.by_dataset():
        here = scored.filter(pl.col("dataset") == dataset)
        seeds, folds = (  # those of a config that share the fold differ in the seed, and the other way round
            pooled_deviation([part["score"].to_numpy() for _, part in here.group_by("config_id", same)])
            for same in ("fold", "seed")
        )
        configs = scored.filter(pl.col("row").is_in(first["row"].implode()))["score"].to_numpy()
        effect = pooled_deviation([configs])
        yield {
            "dataset": dataset,
            "configs": len(configs),
            "config_deviation": effect.deviation,
            "seed_deviation": seeds.deviation,
            "seed_degrees": seeds.degrees,
            "fold_deviation": folds.deviation,
            "fold_degrees": folds.degrees,
            "seed_share_of_variance": (seeds.deviation / effect.deviation) ** 2 if effect.deviation else float("nan"),
        }


def _selection(source: _Source) -> Iterator[Row]:
    """From validation to test.

    The mean of validation minus test at the best validation epoch, over all configs and over the best tenth, which
    selection flatters most; and what the config chosen on validation loses on test against the best one there. Positive
    gaps mean that validation promises too much.
    """
    import polars as pl

    for dataset, trials in source.by_dataset():
        both = trials.filter(pl.col("best_val").is_not_null() & pl.col("best_test").is_not_null())
        val, test = (source.sign * both[name].to_numpy() for name in ("best_val", "best_test"))
        if not len(val):
            continue
        top = np.argsort(-val, kind="stable")[: max(1, len(val) // 10)]
        yield {
            "dataset": dataset,
            "configs": len(val),
            "gap": float((val - test).mean()),
            "gap_of_best_tenth": float((val - test)[top].mean()),
            "test_regret_of_selected": float(test.max() - test[top[0]]),
        }


def _importance(source: _Source) -> Iterator[Row]:
    """Which hyperparameters matter.

    Share of the variance of the best validation score over the grid that the choice of each hyperparameter accounts for
    alone, by dataset: of the backbone over all configs, of the others within a backbone, on average over backbones, and
    of a conditional one where it is active. The rest is interactions and noise.
    """
    import polars as pl

    names = [name for name in source.corpus.space.by_name if name != "backbone"]
    for dataset, trials in source.by_dataset():
        designed = trials.filter(pl.col("best_val").is_not_null())
        grid = designed.filter(pl.col("design") == "grid") if "grid" in designed["design"] else designed
        shares: dict[str, list[float]] = {}
        for _, mine in grid.group_by("backbone"):
            settings = {name: mine[name].to_list() for name in names if name in mine.columns}
            for name, share in importance(mine["best_val"].to_numpy(), settings).items():
                shares.setdefault(name, []).append(share)
        found = importance(grid["best_val"].to_numpy(), {"backbone": grid["backbone"].to_list()})
        found |= {name: float(np.mean(values)) for name, values in shares.items()}
        for name, share in sorted(found.items(), key=lambda item: -item[1]):
            yield {"dataset": dataset, "hyperparameter": name, "share": share, "configs": len(grid)}


def _pretraining(source: _Source) -> Iterator[Row]:
    """Pretrained against scratch.

    Test score of the trial chosen on validation among the pretrained backbones and among those from random weights, and
    how often a pretrained trial beats a scratch one, over all pairs of a dataset (0.5 where neither is better).
    """
    import polars as pl

    networks = pl.col("family") != EPOCHLESS_FAMILY
    for dataset, trials in source.by_dataset():
        here = trials.filter(networks & pl.col("best_val").is_not_null() & pl.col("best_test").is_not_null())
        sides = [here.filter(pl.col("pretrained") == side) for side in (True, False)]
        if any(not len(side) for side in sides):
            continue
        val, test = ([source.sign * side[name].to_numpy() for side in sides] for name in ("best_val", "best_test"))
        chosen = [float(t[v.argmax()]) for v, t in zip(val, test, strict=True)]
        ahead = test[0][:, None] - test[1][None, :]
        yield {
            "dataset": dataset,
            "pretrained": len(sides[0]),
            "scratch": len(sides[1]),
            "pretrained_selected": source.sign * chosen[0],
            "scratch_selected": source.sign * chosen[1],
            "pretrained_wins": float((ahead > 0).mean() + (ahead == 0).mean() / 2),
        }


def _cost(source: _Source) -> Iterator[Row]:
    """What trials cost.

    Seconds of a whole trial by dataset and backbone, alone on its device: the cheapest, the median and the dearest.
    """
    import polars as pl

    done = source.trials.filter(pl.col("last_seconds").is_not_null())
    for key, trials in sorted(done.group_by(*_KEY), key=lambda item: item[0]):
        seconds = trials["last_seconds"]
        yield dict(zip(_KEY, key, strict=True)) | {
            "trials": len(trials),
            "least": seconds.min(),
            "median": seconds.median(),
            "most": seconds.max(),
        }


def _failures(source: _Source) -> Iterator[Row]:
    """How trials ended.

    By status and, for those that did not run to the end, by the last line of what they said.
    """
    import polars as pl

    counted = source.trials.group_by("status", pl.col("error").str.replace_all(r"\d+(\.\d+)?", "N")).len()
    for status, error, count in counted.sort("len", "status", descending=[True, False]).iter_rows():
        yield {"status": status, "message": error, "trials": count}
