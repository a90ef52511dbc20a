"""The figures of a report: pure drawing, deterministic files, no pyplot and so no global figure state."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from metaquery.evaluation.analysis import Analysis, Band
from metaquery.evaluation.measures import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Seven hues that stay apart for the colour-blind (after Okabe and Ito), with a line style each for print.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#7a5195")
DASHES = ((), (5, 1.6), (1.2, 1.2), (6, 1.6, 1.2, 1.6), (9, 2), (3, 1, 1, 1, 1, 1), (2, 2.5))
INK = "#1c2733"
FAINT = "#d5dbe1"
FLOOR = 1e-3  # the smallest regret that the logarithmic axis shows; what is below stands on it

_SECONDS = (0.1, 1, 10, 60, 600, 3600, 36000, 86400, 864000), (0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800)
_COUNTS = tuple(10.0**power for power in range(8)), tuple(n * 10.0**power for power in range(8) for n in (1, 2, 5))
_AXIS_TITLES = {"seconds": "simulated time", "epochs": "newly trained epochs", "trials": "finished evaluations"}


def figures(analysis: Analysis) -> dict[str, Figure]:
    """All figures by file name, for paper: regret and rank over the budget on each split, and regret by dataset."""
    drawn = {}
    for split in analysis.splits:
        drawn[f"regret_{split}"] = _single(partial(draw_regret, analysis=analysis, split=split))
        drawn[f"rank_{split}"] = _single(partial(draw_rank, analysis=analysis, split=split))
    return drawn | {"datasets": _datasets(analysis)}


def panel(analysis: Analysis, dataset: str) -> Figure:
    """Regret on one dataset, on test where there is one, small, for the page."""
    return _single(lambda ax: _draw_dataset(ax, analysis, dataset), size=(3.6, 2.5))


def draw_regret(ax: Axes, analysis: Analysis, split: str) -> None:
    """Mean regret over the budget with its intervals."""
    _curves(ax, analysis, analysis.curves(split))
    ax.set_ylabel(f"normalised {split} regret")
    ax.legend(frameon=False, fontsize=9, loc="upper right")


def draw_rank(ax: Axes, analysis: Analysis, split: str) -> None:
    """Average rank over the budget, 1 on top."""
    ranks = analysis.ranks(split)
    for i, label in enumerate(analysis.optimizers):
        ax.step(analysis.grid, ranks[i], where="post", label=label, **_style(i))
    _budget_axis(ax, analysis)
    n = max(len(analysis.optimizers), 2)
    ax.set_ylim(n + 0.15, 0.85)
    ax.set_yticks(range(1, n + 1))
    ax.set_ylabel(f"average rank, {split}")
    ax.legend(frameon=False, fontsize=9, loc="best")


def svg(figure: Figure) -> str:
    """The figure as an SVG document, the same text for the same figure."""
    with _settings():
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return buffer.getvalue()


def png(figure: Figure) -> bytes:
    """The figure as a PNG on white, the same bytes for the same figure."""
    with _settings():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def inline(document: str, name: str, title: str) -> str:
    """An SVG document as an element of a page: own ids, colours that follow the page, a title for screen readers."""
    text = document[document.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    for i, colour in enumerate(SERIES):
        text = text.replace(colour, f"var(--series-{i})")
    text = text.replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return re.sub(r"<svg", f'<svg role="img" aria-label="{title}"', text, count=1)


def _single(draw: Callable[[Axes], None], size: tuple[float, float] = (6.2, 3.9)) -> Figure:
    from matplotlib.figure import Figure

    with _settings():
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
    return figure


def _datasets(analysis: Analysis) -> Figure:
    from matplotlib.figure import Figure

    n = len(analysis.datasets)
    columns = min(3, n)
    rows = -(-n // columns)
    with _settings():
        figure = Figure(figsize=(3.4 * columns, 2.4 * rows + 0.5), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax, dataset in zip(axes, analysis.datasets, strict=False):
            _draw_dataset(ax, analysis, dataset)
        for ax in axes[n:]:
            ax.remove()
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return figure


def _draw_dataset(ax: Axes, analysis: Analysis, dataset: str) -> None:
    values = analysis.regret(analysis.judged, analysis.grid)[
        :, analysis.datasets.index(dataset)
    ]  # (optimizers, seeds, times)
    low, high = np.quantile(values, [0.25, 0.75], axis=1)
    _curves(ax, analysis, [Band(*band) for band in zip(values.mean(axis=1), low, high, strict=True)])
    ax.set_title(dataset, fontsize=10, loc="left")
    ax.set_xlabel("")


def _curves(ax: Axes, analysis: Analysis, bands: Sequence[Band]) -> None:
    for i, (label, band) in enumerate(zip(analysis.optimizers, bands, strict=True)):
        ax.step(analysis.grid, _clipped(band.mean), where="post", label=label, **_style(i))
        if not np.isnan(band.low).any():
            low, high, colour = _clipped(band.low), _clipped(band.high), SERIES[i % len(SERIES)]
            ax.fill_between(analysis.grid, low, high, step="post", color=colour, alpha=0.16, linewidth=0)
    _budget_axis(ax, analysis)
    ax.set_yscale("log")
    lowest = min(float(_clipped(band.mean).min()) for band in bands)
    bottom = max(FLOOR, 10 ** np.floor(np.log10(lowest)))
    ax.set_ylim(bottom * 0.9, 1.1)
    ticks = [tick for tick in (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0) if tick >= bottom * 0.9]
    ax.set_yticks(ticks, [f"≤ {tick:g}" if tick == FLOOR else f"{tick:g}" for tick in ticks])
    ax.set_yticks([], minor=True)


def _budget_axis(ax: Axes, analysis: Analysis) -> None:
    ax.set_xscale("log")
    low, high = float(analysis.grid[0]), float(analysis.grid[-1])
    ax.set_xlim(low, high)
    for nice in _SECONDS if analysis.axis == "seconds" else _COUNTS:  # coarse, then fine
        ticks = [tick for tick in nice if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) >= 3:
            break
    else:
        ticks = [low, high]
    ax.set_xticks(ticks, [_duration(t) if analysis.axis == "seconds" else f"{t:,.0f}" for t in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlabel(_AXIS_TITLES[analysis.axis])
    ax.grid(color=FAINT, linewidth=0.7)
    ax.set_axisbelow(True)


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _style(i: int) -> dict[str, Any]:
    dashes = DASHES[i % len(DASHES)]
    return {"color": SERIES[i % len(SERIES)], "linestyle": (0, dashes) if dashes else "-", "linewidth": 1.9}


def _clipped(values: Floats) -> Floats:
    return np.clip(values, FLOOR, None)


@contextmanager
def _settings() -> Iterator[None]:
    import matplotlib

    settings: dict[Any, Any] = {
        "svg.hashsalt": "medcurves",
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.size": 10,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with matplotlib.rc_context(settings):
        yield
