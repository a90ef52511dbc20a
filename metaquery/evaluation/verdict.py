"""The verdict of an evaluation in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metaquery.evaluation.analysis import MARKS, Analysis, Band, counted, number
from metaquery.evaluation.measures.regret import Floats
from metaquery.evaluation.measures.significance import ALPHA
from metaquery.evaluation.studies import FAILED

# With n paired units a two-sided sign-flip test cannot go below p = 2 / 2^n: 6 is the first n that reaches 5 %.
MIN_UNITS = 6


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who leads, and the sentences that say by how much and how sure that is."""

    headline: str
    sentences: tuple[str, ...]


def verdict(analysis: Analysis) -> Verdict:
    """Judge by the normalised regret at the full budget, on the split that the analysis judges by.

    The incumbents were chosen on validation.
    """
    labels = analysis.optimizers
    regret = analysis.regret(analysis.judged, np.array(MARKS) * analysis.limit)
    mean = regret.mean(axis=2).mean(axis=1)  # (optimizers, marks)
    order = np.argsort(mean[:, -1], kind="stable")
    leader = int(order[0])
    name = labels[leader]
    if len(labels) == 1:
        headline = f"{name} alone: a {analysis.judged} regret of {number(mean[0, -1])} at the full budget"
        return Verdict(headline, ("There is nothing to compare it with.", *_caveats(analysis)))
    second = int(order[1])
    gap = analysis.band(regret[second, :, :, -1] - regret[leader, :, :, -1])
    if gap.mean == 0.0:
        headline = f"{name} and {labels[second]} end level, at a {analysis.judged} regret of {number(mean[leader, -1])}"
        sentences = ["At the full budget neither leads."]
    elif _clear(gap, analysis):
        headline = f"{name} leads"
        sentences = [_lead(analysis.judged, name, mean[leader, -1], labels[second], gap), _sure(gap, analysis)]
    else:
        headline = f"{name} has the lowest {analysis.judged} regret, but the lead is not distinguishable from noise"
        sentences = [_lead(analysis.judged, name, mean[leader, -1], labels[second], gap), _sure(gap, analysis)]
    sentences += _rest(analysis, regret, order)
    sentences += _corrected(analysis, leader)
    sentences += _early(analysis, mean)
    sentences += _validation(analysis, leader)
    return Verdict(headline, (*sentences, *_caveats(analysis)))


def _lead(split: str, name: str, regret: float, other: str, gap: Band) -> str:
    difference = f"{gap.mean:.2g} less than {other}"
    if not np.isnan(gap.low):
        difference += f" (95 % interval of the paired difference {gap.low:.2g} to {gap.high:.2g})"
    return f"At the full budget {name} has a normalised {split} regret of {number(regret)}, {difference}."


def _clear(gap: Band, analysis: Analysis) -> bool:
    return bool(gap.low > 0 and analysis.units[0] >= MIN_UNITS)


def _sure(gap: Band, analysis: Analysis) -> str:
    n, kind = analysis.units
    if np.isnan(gap.low):
        return "With a single dataset and seed there is no interval, so nothing can be said about chance."
    if gap.low <= 0:
        return "The interval includes zero: the difference is not distinguishable from noise."
    if n < MIN_UNITS:
        return (
            f"The interval excludes zero, but it rests on {n} {kind}: fewer than {MIN_UNITS} cannot tell a difference "
            "from chance at the 5 % level."
        )
    return f"The interval excludes zero over {n} {kind}: the difference is distinguishable from noise."


def _rest(analysis: Analysis, regret: Floats, order: NDArray[np.intp]) -> list[str]:
    leader, others = int(order[0]), [int(i) for i in order[2:]]
    gaps = {i: analysis.band(regret[i, :, :, -1] - regret[leader, :, :, -1]) for i in others}
    if not gaps:
        return []
    beaten = [analysis.optimizers[i] for i, gap in gaps.items() if _clear(gap, analysis)]
    level = [analysis.optimizers[i] for i, gap in gaps.items() if not _clear(gap, analysis)]
    parts = [f"clearly ahead of {', '.join(beaten)}"] * bool(beaten)
    parts += [f"not distinguishable from {', '.join(level)}"] * bool(level)
    return [f"Against the rest it is {' and '.join(parts)}."]


def _corrected(analysis: Analysis, leader: int) -> list[str]:
    found = analysis.statistics.critical_difference
    if found is None:
        return []
    others = [label for i, label in enumerate(analysis.optimizers) if i != leader and found.holm[leader, i] < ALPHA]
    return [
        f"By Wilcoxon's signed-rank test over datasets, corrected for all pairs (Holm), {analysis.optimizers[leader]} "
        f"differs from {', '.join(others) or 'none of the others'} at the 5 % level."
    ]


def _early(analysis: Analysis, mean: Floats) -> list[str]:
    first = int(mean[:, 0].argmin())
    values = ", ".join(f"{label} {number(mean[i, 0])}" for i, label in enumerate(analysis.optimizers))
    level = np.sum(mean[:, 0] == mean[first, 0]) > 1
    who = "several are level" if level else f"{analysis.optimizers[first]} is lowest"
    return [f"At {MARKS[0]:.0%} of the budget {who} ({analysis.judged} regret: {values})."]


def _validation(analysis: Analysis, leader: int) -> list[str]:
    if analysis.judged == "validation":
        why = judged_on_validation(analysis)
        return [
            f"{why[0].upper()}{why[1:]}, so optimizers are judged by the validation values that they saw, and their "
            "results are optimistic."
        ]
    mean = analysis.regret("validation", np.array([analysis.limit])).mean(axis=(1, 2, 3))
    best = int(mean.argmin())
    if mean[best] == mean[leader]:
        return []
    return [
        f"On validation, which the optimizers saw, {analysis.optimizers[best]} is ahead ({number(mean[best])} against "
        f"{number(mean[leader])})."
    ]


def judged_on_validation(analysis: Analysis) -> str:
    """Why it is validation and not test that counts."""
    if "test" in analysis.splits:
        return "the protocol judges on validation"
    return "the corpus has no test values"


def _caveats(analysis: Analysis) -> list[str]:
    stops = Counter(study["stop"] for study in analysis.provenance["studies"])
    own_accord = {stop: n for stop, n in stops.items() if stop in ("exhausted", "finished", "stalled")}
    total = sum(stops.values())
    caveats = []
    if own_accord:
        caveats.append(
            f"{sum(own_accord.values())} of {total} studies ended before the budget did: {counted(own_accord)}; "
            "a smaller budget, or a larger table, would tell optimizers better apart."
        )
    failed = analysis.studies(stop=FAILED)
    if failed:
        who = counted(Counter(study["optimizer"] for study in failed))
        caveats.append(f"{len(failed)} of {total} studies failed and count as the worst: {who}.")
    empty = sum(study["evaluations"] == 0 and study["stop"] != FAILED for study in analysis.provenance["studies"])
    if empty:
        caveats.append(f"{empty} of {total} studies finished no evaluation within the budget.")
    return caveats
