"""The configs that a corpus suggests for a new dataset, with what to expect of them and why."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from metaquery.errors import InvalidInput
from metaquery.recommend.held_out import ENOUGH_FAMILIES, HeldOut, held_out
from metaquery.recommend.knowledge import SAMPLES, Floats, Knowledge
from metaquery.recommend.nearness import bandwidth, distances, varying, weights
from metaquery.space import Config

_NEAREST = 3
_ALIKE = 3


@dataclass(frozen=True, slots=True)
class Suggested:
    """A config with the metric to expect, the ends of its 95 % prediction interval (NaN where there is none), and the
    seconds of a whole training (NaN where the corpus has no costs)."""

    config: Config
    expected: float
    low: float
    high: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A known dataset: its distance, its share in the recommendation, the device of its costs, and the meta-features
    that are most alike and most different, each with the new value and the known one."""

    dataset: str
    distance: float
    share: float
    device: str
    alike: tuple[tuple[str, float, float], ...]
    different: tuple[str, float, float] | None


@dataclass(frozen=True, eq=False)
class Recommendation:
    """`suggested`, the best first; `neighbours`, the nearest first; `warnings`, what to doubt."""

    suggested: tuple[Suggested, ...]
    neighbours: tuple[Neighbour, ...]
    warnings: tuple[str, ...]
    knowledge: Knowledge
    evidence: HeldOut

    def describe(self, top: int = 5) -> str:
        """All of it, in words, with the first `top` configs."""
        known = self.knowledge
        on = "test" if known.judged == "test" else "validation, as the corpus has no test values"
        lines = [
            "configs in the order of their mean validation score on known datasets, with the expected "
            f"{known.metric.name} on {on}, and the time of a whole training:"
        ]
        shown = self.suggested[:top]
        every = {pair for item in shown for pair in item.config.items()}
        names = Counter(name for name, _ in every)
        shared = {name: value for name, value in every if names[name] == 1 and len(shown) > 1 and name != "backbone"}
        for place, item in enumerate(shown, start=1):
            own = ", ".join(f"{name}={value}" for name, value in item.config.items() if name not in shared)
            interval = "interval unknown" if math.isnan(item.low) else f"{item.low:.2f} to {item.high:.2f}"
            cost = "time unknown" if math.isnan(item.seconds) else f"about {_duration(item.seconds)}"
            lines.append(f"{place:3}. {item.expected:.3f} ({interval}), {cost}: {own or 'as below'}")
        if shared:
            same = ", ".join(f"{name}={value}" for name, value in sorted(shared.items()))
            lines.append(f"     all with, where they apply, {same}")
        lines += ["", "nearest datasets:"]
        for near in self.neighbours:
            lines.append(f"  {near.dataset}: distance {near.distance:.2f}, share {near.share:.0%}")
            if near.different is not None:
                alike = f"alike in {'; '.join(_compared(*item) for item in near.alike)}; " if near.alike else ""
                lines.append(f"    {alike}most different in {_compared(*near.different)}")
        lines += ["", f"times are those of {', '.join(sorted({near.device for near in self.neighbours}))}"]
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])


def recommend(
    knowledge: Knowledge, metafeatures: Mapping[str, float], *, name: str = "", family: str = "", top: int = 5
) -> Recommendation:
    """The `top` configs for a dataset with `metafeatures`.

    A config's score is the mean of its scores on the known datasets, weighted by nearness (`nearness.bandwidth`). The
    interval is from the errors on held-out families (`held_out`), by Student's t. What the corpus has of the dataset
    itself or of its family is left out. Raises InvalidInput where nothing else is left.
    """
    left_out = [d for d, f in zip(knowledge.datasets, knowledge.families, strict=True) if f == family or d == name]
    knowledge = knowledge.without(family, name)
    if not knowledge.datasets:
        raise InvalidInput(
            f"the corpus has {knowledge.n_dims}-D datasets of the family {family!r} only, this dataset's own: "
            "give a corpus of other ones"
        )
    features = np.array([metafeatures.get(feature, math.nan) for feature in knowledge.names], np.float64)
    distance = distances(knowledge, features)
    shares = weights(distance, bandwidth(knowledge))
    evidence = held_out(knowledge)
    order = np.argsort(shares @ knowledge.score, kind="stable")[:top]
    error, n = evidence.error()
    if n:
        from scipy.stats import t

        error *= float(t.ppf(0.975, n))
    samples = metafeatures.get(SAMPLES, math.nan)
    bounds = knowledge.metric.lower, knowledge.metric.upper
    suggested = []
    for column in order:
        expected = float(shares @ knowledge.value[:, column])
        low, high = (float(np.clip(expected + side * error, *bounds)) if n > 1 else math.nan for side in (-1, 1))
        seconds = _seconds(knowledge.seconds[:, column], shares) * samples
        suggested.append(Suggested(knowledge.configs[column], expected, low, high, seconds))
    nearest = [_neighbour(knowledge, i, features, distance, shares) for i in np.argsort(distance)[:_NEAREST]]
    return Recommendation(
        tuple(suggested),
        tuple(nearest),
        tuple(_warnings(knowledge, features, distance, shares, evidence, left_out)),
        knowledge,
        evidence,
    )


def _seconds(per_sample: Floats, shares: Floats) -> float:
    """Weighted geometric mean over the datasets with costs."""
    known = np.isfinite(per_sample) & (per_sample > 0)
    if not known.any():
        return math.nan
    return float(np.exp(shares[known] @ np.log(per_sample[known]) / shares[known].sum()))


def _neighbour(knowledge: Knowledge, row: int, features: Floats, distance: Floats, shares: Floats) -> Neighbour:
    known = knowledge.features
    every = np.vstack([known, features])
    there = np.isfinite(every)
    spread = np.where(there, every, -np.inf).max(axis=0) - np.where(there, every, np.inf).min(axis=0)
    apart = np.divide(np.abs(known[row] - features), spread, out=np.full(len(features), math.nan), where=spread > 0)
    apart[~varying(knowledge)] = math.nan
    order = [int(i) for i in np.argsort(apart) if math.isfinite(apart[i])]
    items = [(knowledge.names[i], float(features[i]), float(known[row, i])) for i in order]
    return Neighbour(
        knowledge.datasets[row],
        float(distance[row]),
        float(shares[row]),
        knowledge.devices[row],
        tuple(items[:-1][:_ALIKE]),
        items[-1] if items else None,
    )


def _warnings(
    knowledge: Knowledge, features: Floats, distance: Floats, shares: Floats, evidence: HeldOut, left_out: list[str]
) -> list[str]:
    found = []
    if left_out:
        found.append(f"left out, as they are this dataset or of its family: {', '.join(left_out)}")
    n = len(set(knowledge.families))
    if n < ENOUGH_FAMILIES:
        found.append(f"the corpus has {n} other {knowledge.n_dims}-D families only: too few to trust the numbers")
    if not np.isfinite(features).any():
        found.append("no meta-feature of this dataset is known to the corpus: the recommendation is the average one")
    elif n > 1:
        gaps = [
            distances(others, row).min()
            for row, family in zip(knowledge.features, knowledge.families, strict=True)
            if (others := knowledge.without(family)).datasets
        ]
        if distance.min() > max(gaps):
            found.append("this dataset is farther from all of the corpus than any of its datasets from the others")
    if np.ptp(shares) < 1e-9:
        found.append(
            "nearness is not seen to help on this corpus: all its datasets count the same, and this is its average"
        )
    if n > 1:
        regret = evidence.by_family(evidence.regret).mean(axis=0)
        found.append(
            "on held-out families the recommended config had a mean normalised regret of "
            f"{regret[0]:.2f}, the best on average {regret[1]:.2f}, the default {regret[2]:.2f}"
        )
    return found


def _compared(name: str, new: float, known: float) -> str:
    return f"{name} ({new:.3g}, there {known:.3g})"


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
