"""Does the recommendation help? Every dataset in turn is the new one, and its family is left out of what is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from metaquery.evaluation.measures.aggregate import bootstrap_interval
from metaquery.recommend.knowledge import Floats, Knowledge
from metaquery.recommend.nearness import bandwidth, distances, weights
from metaquery.space import Distances

METHODS = ("recommended", "best_on_average", "default", "random")
ENOUGH_FAMILIES = 10  # below it, an interval over families says little

_TITLES = {
    "best_on_average": "the best config on average",
    "default": "the default config",
    "random": "a random config",
}


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Normalised regret of one config per method on every held-out dataset, (datasets, METHODS).

    0 is the best and 1 the worst config of the dataset by `judged`; NaN where the family is the only one. `residual`,
    (datasets,), is the value of the recommended config less the predicted one.
    """

    knowledge: Knowledge
    regret: Floats
    residual: Floats

    @property
    def families(self) -> tuple[str, ...]:
        """The families that were held out, sorted."""
        return tuple(sorted({f for f, row in zip(self.knowledge.families, self.regret) if np.isfinite(row).all()}))

    def by_family(self, values: Floats) -> Floats:
        """Means of `values`, (datasets, ...), within each family: datasets of one family are no separate evidence."""
        members = np.array(self.knowledge.families)
        return np.array([values[members == family].mean(axis=0) for family in self.families])

    def error(self) -> tuple[float, int]:
        """Root mean square of the residuals and the number of families it is from; NaN for none."""
        if not self.families:
            return float("nan"), 0
        return float(np.sqrt(self.by_family(self.residual**2).mean())), len(self.families)

    def rows(self) -> list[dict[str, Any]]:
        """One row per held-out dataset: dataset, family, then the regret of every method."""
        found = zip(self.knowledge.datasets, self.knowledge.families, self.regret, strict=True)
        return [
            {"dataset": dataset, "family": family, **dict(zip(METHODS, map(float, regret), strict=True))}
            for dataset, family, regret in found
        ]

    def describe(self) -> str:
        """The table and what it says, in words."""
        known = self.knowledge
        lines = [f"{known.n_dims}-D, {len(known.datasets)} datasets of {len(set(known.families))} families"]
        if len(self.families) < 2:
            return lines[0] + ": one family cannot be held out from others, so there is nothing to compare"
        width = max(len("dataset"), *map(len, known.datasets))
        lines.append(f"{'dataset':{width}}  " + "  ".join(f"{name:>15}" for name in METHODS))
        for row in self.rows():
            lines.append(f"{row['dataset']:{width}}  " + "  ".join(f"{row[name]:15.3f}" for name in METHODS))
        lines.append(f"{'mean':{width}}  " + "  ".join(f"{v:15.3f}" for v in self.by_family(self.regret).mean(axis=0)))
        where = "test" if known.judged == "test" else "validation, as the corpus has no test values"
        lines.append(
            f"Normalised regret on {where}: 0 the best, 1 the worst config that was run on the dataset. The config is "
            "chosen from the validation values of other families; random is the mean of all configs."
        )
        return "\n".join([*lines, *self._verdict()])

    def _verdict(self) -> list[str]:
        regret = self.by_family(self.regret)
        lines = []
        for column, name in enumerate(METHODS[1:], start=1):
            difference = regret[:, 0] - regret[:, column]
            low, high = map(float, bootstrap_interval(difference))
            said = "better than" if high < 0 else "worse than" if low > 0 else "not shown to differ from"
            lines.append(
                f"The recommended config is {said} {_TITLES[name]}: its regret is {difference.mean():+.3f} apart "
                f"(95 % interval {low:+.3f} to {high:+.3f}, bootstrap over {len(regret)} families)."
            )
        if len(regret) < ENOUGH_FAMILIES:
            lines.append(f"{len(regret)} families are too few for a conclusion: take the numbers as an example.")
        return lines


def held_out(knowledge: Knowledge) -> HeldOut:
    """The study. What is chosen for a dataset, bandwidth included, never depends on its family."""
    better = 1.0 if knowledge.metric.direction == "maximize" else -1.0
    regret = np.full((len(knowledge.datasets), len(METHODS)), np.nan)
    residual = np.full(len(knowledge.datasets), np.nan)
    without = {family: knowledge.without(family) for family in set(knowledge.families)}
    widths = {family: bandwidth(others) for family, others in without.items() if others.datasets}
    for row, family in enumerate(knowledge.families):
        if family not in widths:
            continue
        others = without[family]
        there = np.flatnonzero(knowledge.ran[row])
        shares = weights(distances(others, knowledge.features[row]), widths[family])
        own = better * knowledge.value[row, there]
        lost = (own.max() - own) / (np.ptp(own) or 1.0)
        chosen = int((shares @ others.score[:, there]).argmin())
        average = int(others.score[:, there].mean(axis=0).argmin())
        default = Distances(knowledge.space, [knowledge.configs[i] for i in there])(knowledge.space.default()).argmin()
        regret[row] = lost[chosen], lost[average], lost[int(default)], lost.mean()
        residual[row] = knowledge.value[row, there[chosen]] - shares @ others.value[:, there[chosen]]
    return HeldOut(knowledge, regret, residual)
