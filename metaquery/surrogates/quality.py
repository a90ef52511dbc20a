"""How well a surrogate predicts configs that it has not learned from, beside the best that noise would let it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from metaquery.errors import InvalidInput, UnknownName
from metaquery.metrics import metric as metric_called
from metaquery.surrogates.families import FAMILIES
from metaquery.surrogates.training import folds_of
from metaquery.surrogates.trials import Floats, Trials, learned, losses_of, read_trials

if TYPE_CHECKING:
    from metaquery.corpus import Corpus

Say = Callable[[str], None]

TOP = (1, 5, 10)
_RESAMPLES = 200
_EMPTY = np.empty((0, 2), np.int64)
_FEWEST = 5  # configs of a dataset, below which ranks say nothing


@dataclass(frozen=True)
class Quality:
    """Cross-validated quality for one metric.

    `families` has a row for each family of models, with the measures of `measure`; `ceiling` the same measures of what
    an oracle of the mean over seeds would reach, null without repeats, and `ceiling_interval` the 95 % interval of its
    Spearman correlation; `regret` the top-k regret of the first family
    for each dataset.
    """

    metric: str
    trials: int
    configs: int
    parts: int
    families: dict[str, dict[str, float | None]]
    ceiling: dict[str, float | None]
    ceiling_interval: tuple[float, float] | None
    regret: dict[str, dict[str, float | None]]

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return dict(vars(self))

    def __str__(self) -> str:
        columns = list(next(iter(self.families.values())))
        rows = [*self.families.items(), ("ceiling by seed noise", self.ceiling)]
        lines = [
            f"{self.metric}: {self.trials} trials of {self.configs} configs, cross-validated in {self.parts} parts by "
            "config",
            *_table("family", columns, rows),
            "",
            "top-k regret on validation values, as a share of the range, of the first family",
            *_table("dataset", list(next(iter(self.regret.values()))), list(self.regret.items())),
        ]
        if self.ceiling_interval is None:
            lines.append("no repeats: too few configs have trials with several seeds, so the ceiling is not known")
        else:
            low, high = self.ceiling_interval
            lines.append(
                f"the ceiling of spearman is from {low:.3f} to {high:.3f} (95 %, repeated configs drawn again)"
            )
        return "\n".join(lines)


def evaluate(
    corpus: Corpus,
    metric: str | None = None,
    families: Sequence[str] = ("network",),
    parts: int = 5,
    seed: int = 0,
    say: Say = lambda _line: None,
) -> Quality:
    """Cross-validate `families` on the trials of `corpus`: the trials of a config are all in one of `parts`.

    Raises UnknownName for another family, InvalidInput where there are too few trials.
    """
    for family in families:
        if family not in FAMILIES:
            raise UnknownName.of("family of surrogates", family, FAMILIES)
    if parts < 2:
        raise InvalidInput(f"cross-validation needs at least 2 parts, got {parts}")
    trials = read_trials(corpus, corpus.default_metric if metric is None else metric)
    measured = metric_called(trials.metric)
    part = folds_of(trials, parts)
    found: dict[str, dict[str, float | None]] = {}
    first: Floats | None = None
    for family in families:
        started = time.process_time()
        curves = np.full_like(trials.curves, np.nan)
        for number in range(parts):
            held_out = np.flatnonzero(part == number)
            if len(held_out):
                known = trials.take(np.flatnonzero(part != number))
                curves[held_out] = FAMILIES[family](known, trials.take(held_out), seed)
            say(f"{trials.metric}: {family}, part {number + 1} of {parts} done")
        curves[:, :2] = learned(losses_of(curves[:, :2], measured), measured)
        found[family] = {**measure(trials, curves), "cpu_seconds": round(time.process_time() - started, 1)}
        first = curves if first is None else first
    assert first is not None
    return Quality(
        trials.metric,
        len(trials),
        len({config.config_id for config in trials.configs}),
        parts,
        found,
        {**ceiling(trials), "cpu_seconds": None},
        ceiling_interval(trials),
        {name: top_regret(trials, first, rows) for name, rows in _by_dataset(trials).items()},
    )


def measure(trials: Trials, predicted: Floats) -> dict[str, float | None]:
    """Agreement of `predicted` (n, 4, epochs) with the curves of `trials`.

    `r2` over all epochs of validation, of losses as `learned`; `r2_within` of the same about each dataset's mean;
    Kendall's tau and Spearman's rank correlation of the last epoch's validation losses within a dataset and fold,
    means over these with the number of trials less one as weights, which are the inverse of their variances; the same
    for test; and `r2_seconds` of the logarithm of the seconds per epoch.
    """
    true = trials.curves
    found: dict[str, float | None] = {"r2": _r2(true[:, 0], predicted[:, 0], None)}
    found["r2_within"] = _r2(true[:, 0], predicted[:, 0], trials.task)
    for name, target in (("", 0), ("_test", 1)):
        ranks = [_ranks(true[rows, target, -1], predicted[rows, target, -1]) for rows in _by_task(trials)]
        for measured, value in zip(("kendall", "spearman"), _mean_ranks(ranks), strict=True):
            found[f"{measured}{name}"] = value
    found["r2_seconds"] = _r2(true[:, 2], predicted[:, 2], None)
    return found


def ceiling(trials: Trials) -> dict[str, float | None]:
    """What an oracle of each config's mean over seeds would reach against single trials, from those that have several.

    For R², one less the share of the noise in the variance; for rank correlations, the square root of the one between
    two seeds (the bound of attenuation, Spearman 1904), Kendall's by way of the correlation that belongs to it under
    the normal distribution (Greiner 1909). None without repeats.
    """
    nothing: dict[str, float | None] = dict.fromkeys(measure(trials, trials.curves))
    pairs = np.concatenate([_EMPTY, *_pairs(trials)])
    if len({trials.configs[row] for row in pairs[:, 0]}) < _FEWEST:
        return nothing
    one, other = (trials.take(pairs[:, side]) for side in (0, 1))
    agreement = measure(one, other.curves)
    found = dict(nothing)
    for name, value in agreement.items():
        if value is None:
            continue
        target = 2 if name == "r2_seconds" else 0
        if name.startswith("r2"):
            gap = (one.curves[:, target] - other.curves[:, target]) / np.sqrt(2.0)
            spread = trials.curves[:, target]
            centre = _centres(spread, trials.task) if name == "r2_within" else np.nanmean(spread)
            found[name] = float(1.0 - np.nanmean(gap**2) / np.nanmean((spread - centre) ** 2))
        elif name.startswith("kendall"):
            found[name] = float(2.0 / np.pi * np.arcsin(np.sqrt(max(np.sin(np.pi / 2.0 * value), 0.0))))
        else:
            found[name] = float(np.sqrt(max(value, 0.0)))
    return found


def ceiling_interval(trials: Trials, seed: int = 0) -> tuple[float, float] | None:
    """The 95 % interval of the `ceiling` of Spearman's correlation, from repeated configs drawn again; None without."""
    groups = _pairs(trials)
    by_task = [[group for group in groups if trials.task[group[0, 0]] == task] for task in range(len(trials.tasks))]
    enough = [own for own in by_task if len(own) >= _FEWEST]
    if not enough:
        return None
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(_RESAMPLES):
        drawn = [np.concatenate([own[row] for row in rng.integers(0, len(own), len(own))]) for own in enough]
        ranks = [_ranks(trials.curves[p[:, 0], 0, -1], trials.curves[p[:, 1], 0, -1]) for p in drawn]
        spearman = _mean_ranks(ranks)[1]
        found += [] if spearman is None else [float(np.sqrt(max(spearman, 0.0)))]
    if not found:
        return None
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def _pairs(trials: Trials) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """For each dataset, fold and config with several seeds, the rows of every two of them, (pairs, 2)."""
    groups: dict[tuple[int, str], list[int]] = {}
    for row, config in enumerate(trials.configs):
        groups.setdefault((int(trials.task[row]), config.config_id), []).append(row)
    return [np.array(list(combinations(rows, 2))) for rows in groups.values() if len(rows) > 1]


def top_regret(trials: Trials, predicted: Floats, rows: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, float | None]:
    """How far the best of the k configs that are predicted to be best is from the best of all, among the trials `rows`,
    by validation loss at the last epoch, as a share of the range; None where too few trials got there."""
    measured = metric_called(trials.metric)
    true, guess = (losses_of(curves[rows, 0, -1], measured) for curves in (trials.curves, predicted))
    known = np.isfinite(true)
    true, guess = true[known], guess[known]
    if len(true) < _FEWEST:
        return {f"top_{k}": None for k in TOP}
    order, spread = guess.argsort(kind="stable"), true.max() - true.min()
    return {f"top_{k}": float((true[order[:k]].min() - true.min()) / spread) if spread else 0.0 for k in TOP}


class _Ranks(NamedTuple):
    """Kendall's and Spearman's rank correlations of `n` trials."""

    kendall: float
    spearman: float
    n: int


def _mean_ranks(ranks: Sequence[_Ranks | None]) -> tuple[float | None, float | None]:
    """Means of both correlations, weighted by the number of trials less one; None where there are none."""
    known = [rank for rank in ranks if rank is not None]
    if not known:
        return None, None
    kendall, spearman = np.average([rank[:2] for rank in known], axis=0, weights=[rank.n - 1 for rank in known])
    return float(kendall), float(spearman)


def _ranks(true: Floats, guess: Floats) -> _Ranks | None:
    from scipy.stats import kendalltau, spearmanr

    known = np.isfinite(true) & np.isfinite(guess)
    if known.sum() < _FEWEST or np.ptp(true[known]) == 0.0 or np.ptp(guess[known]) == 0.0:
        return None
    true, guess = true[known], guess[known]
    return _Ranks(float(kendalltau(true, guess)[0]), float(spearmanr(true, guess)[0]), len(true))


def _r2(true: Floats, guess: Floats, task: np.ndarray[Any, Any] | None) -> float | None:
    if not np.isfinite(true).any():
        return None
    centre = np.nanmean(true) if task is None else _centres(true, task)
    return float(1.0 - np.nansum((true - guess) ** 2) / np.nansum((true - centre) ** 2))


def _centres(values: Floats, task: np.ndarray[Any, Any]) -> Floats:
    """The mean of the task of each row of `values` (n, epochs), (n, 1)."""
    centres = np.full((len(values), 1), np.nan)
    for number in np.unique(task):
        own = values[task == number]
        centres[task == number] = own[np.isfinite(own)].mean() if np.isfinite(own).any() else np.nan
    return centres


def _by_task(trials: Trials) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    return [np.flatnonzero(trials.task == task) for task in range(len(trials.tasks))]


def _by_dataset(trials: Trials) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    names = np.array([task.dataset for task in trials.tasks])[trials.task]
    return {str(name): np.flatnonzero(names == name) for name in np.unique(names)}


def _table(title: str, columns: Sequence[str], rows: Sequence[tuple[str, dict[str, float | None]]]) -> list[str]:
    width = max(len(title), *(len(name) for name, _ in rows))
    widths = [max(len(column), 7) for column in columns]
    head = "  ".join([title.ljust(width), *(c.rjust(w) for c, w in zip(columns, widths, strict=True))])
    lines = [head, "  ".join(["-" * width, *("-" * w for w in widths)])]
    for name, row in rows:
        cells = ["null" if row[c] is None else f"{row[c]:.3f}" for c in columns]
        lines.append("  ".join([name.ljust(width), *(v.rjust(w) for v, w in zip(cells, widths, strict=True))]))
    return lines
