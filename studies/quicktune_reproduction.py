"""The tables and the figure of studies/quicktune-reproduction.md, from the evaluation that the script beside it leaves.

Usage: python studies/quicktune_reproduction.py EVALUATION DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from metaquery.evaluation import Evaluation
from metaquery.evaluation.analysis import MARKS, Analysis
from metaquery.evaluation.measures.aggregate import bootstrap_interval
from metaquery.evaluation.measures.ranks import average_rank

REFERENCE = "quicktune"
PANELS = {
    "with other optimizers": ("random", "asha", "hyperband", "dehb", "dyhpo", REFERENCE),
    "with one part turned off": (REFERENCE, "quicktune:meta=false", "quicktune:cost=false", "quicktune:grey_box=false"),
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#1c2733")


def interval(values: NDArray[np.float64]) -> str:
    """Mean over datasets of `values`, shape (datasets,), with its bootstrap interval."""
    low, high = bootstrap_interval(values)
    return f"{values.mean():z.3f} [{low:z.3f}, {high:z.3f}]"


def tables(analysis: Analysis) -> str:
    """Regrets and ranks at shares of the budget, and how far the reference is below, by dataset."""
    split = analysis.judged
    regret = analysis.regret(split, np.array(MARKS) * analysis.limit)  # (optimizers, datasets, seeds, marks)
    rank = average_rank(regret)
    means = regret.mean(axis=2)
    own = means[analysis.optimizers.index(REFERENCE)]
    heads = [f"{mark:.0%}" for mark in MARKS]
    lines = ["| optimizer | " + " | ".join([f"regret at {h}" for h in heads] + [f"rank at {h}" for h in heads]) + " |"]
    lines += ["| --- |" + " --- |" * 2 * len(MARKS)]
    for i in np.argsort(means[:, :, -1].mean(axis=1)):
        cells = [interval(means[i, :, j]) for j in range(len(MARKS))] + [f"{value:.2f}" for value in rank[i]]
        lines.append(f"| `{analysis.optimizers[i]}` | " + " | ".join(cells) + " |")
    lines += ["", f"| `{REFERENCE}` less | " + " | ".join(heads) + " | lower, equal, higher at the end |"]
    lines += ["| --- |" + " --- |" * (len(MARKS) + 1)]
    for i, label in enumerate(analysis.optimizers):
        if label != REFERENCE:
            gap = own - means[i]
            signs = np.sign(np.round(gap[:, -1], 9))
            counts = ", ".join(str(int((signs == sign).sum())) for sign in (-1, 0, 1))
            cells = [interval(gap[:, j]) for j in range(len(MARKS))]
            lines.append(f"| `{label}` | " + " | ".join(cells) + f" | {counts} |")
    return "\n".join(lines)


def figure(analysis: Analysis) -> Figure:
    """Mean regret over simulated hours, one panel for the other optimizers and one for the ablations."""
    drawn = Figure(figsize=(9.6, 3.6), layout="constrained")
    curves = dict(zip(analysis.optimizers, analysis.curves(analysis.judged), strict=True))
    hours = analysis.grid / 3600.0
    for ax, (title, labels) in zip(drawn.subplots(1, 2, sharey=True), PANELS.items(), strict=True):
        for label, colour in zip(labels, COLOURS if len(labels) == len(COLOURS) else COLOURS[::-1], strict=False):
            ax.step(hours, curves[label].mean, where="post", label=label, color=colour, linewidth=1.6)
            ax.fill_between(hours, curves[label].low, curves[label].high, step="post", color=colour, alpha=0.08, lw=0)
        ax.set(title=title, xlabel="simulated hours", xscale="log", yscale="log", xlim=(0.05, hours[-1]))
        ax.set_ylim(0.02, 1.05)
        ax.grid(color="#d5dbe1", linewidth=0.6)
        ax.legend(frameon=False, fontsize=8, loc="lower left")
    drawn.axes[0].set_ylabel(f"normalised {analysis.judged} regret")
    return drawn


if __name__ == "__main__":
    evaluation, out = Path(sys.argv[1]), Path(sys.argv[2])
    found = Evaluation.load(evaluation).analysis
    print(tables(found))
    figure(found).savefig(out / "quicktune-reproduction.png", dpi=100)
