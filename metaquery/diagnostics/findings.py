"""What each table of a diagnosis comes to, in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

Row = dict[str, Any]


def finding(name: str, rows: Sequence[Row], metric: str) -> str:
    """A sentence on the table `name`, judged by `metric`; "" where it has nothing to say or no sentence of its own."""
    return _SENTENCES[name](rows, metric) if name in _SENTENCES and rows else ""


def _fidelity(rows: Sequence[Row]) -> str:
    epochs = sorted({row["epoch"] for row in rows})
    told = [(epoch, _known(row["rank_correlation"] for row in rows if row["epoch"] == epoch)) for epoch in epochs]
    parts = [f"{median(values):.2f} at epoch {epoch}" for epoch, values in told if values]
    if not parts:
        return ""
    return f"Median rank correlation with the last epoch over {_datasets(len(told[0][1]))}: {', '.join(parts)}."


def _noise(rows: Sequence[Row], metric: str) -> str:
    mine = [row for row in rows if (row["metric"], row["split"]) == (metric, "val")]
    shares = _known(row["seed_share_of_variance"] for row in mine)
    if not shares:
        return "No dataset has enough repeated seeds to tell their noise."
    return (
        f"Seeds account for {min(shares):.1%} to {max(shares):.1%} of the variance of validation {metric} between "
        f"configs, on the {_datasets(len(shares))} with enough repeats."
    )


def _selection(rows: Sequence[Row], metric: str) -> str:
    regrets, gaps = (_known(row[name] for row in rows) for name in ("test_regret_of_selected", "gap_of_best_tenth"))
    if not regrets:
        return ""
    return (
        f"Over {_datasets(len(regrets))}, the config chosen on validation loses {median(regrets):.3f} test {metric} in "
        f"the median (at most {max(regrets):.3f}), and validation flatters the best tenth by {median(gaps):.3f}."
    )


def _importance(rows: Sequence[Row]) -> str:
    datasets: dict[str, tuple[float, str]] = {}
    for row in rows:
        if row["share"] is not None:
            datasets[row["dataset"]] = max(
                datasets.get(row["dataset"], (0.0, "")), (row["share"], row["hyperparameter"])
            )
    first: dict[str, int] = {}
    for _, name in datasets.values():
        first[name] = first.get(name, 0) + 1
    told = ", ".join(
        f"{name} on {_datasets(n)}" for name, n in sorted(first.items(), key=lambda item: (-item[1], item))
    )
    return f"What matters most: {told}." if told else ""


def _pretraining(rows: Sequence[Row]) -> str:
    ahead = _known(row["pretrained_ahead"] for row in rows)
    if not ahead:
        return ""
    wins = sum(value > 0.5 for value in ahead)
    return f"Pretrained is more probably ahead on {wins} of the {_datasets(len(ahead))} that can tell."


def _cost(rows: Sequence[Row]) -> str:
    medians = _known(row["median"] for row in rows)
    if not medians or min(medians) <= 0:
        return ""
    return f"The dearest median is {max(medians) / min(medians):,.0f} times the cheapest."


def _failures(rows: Sequence[Row]) -> str:
    total = sum(row["trials"] for row in rows)
    done = sum(row["trials"] for row in rows if row["status"] == "completed")
    return f"{done:,} of {total:,} trials completed."


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _datasets(n: int) -> str:
    return f"{n} dataset{'' if n == 1 else 's'}"


_SENTENCES: dict[str, Callable[[Sequence[Row], str], str]] = {
    "fidelity": lambda rows, _metric: _fidelity(rows),
    "noise": _noise,
    "selection": _selection,
    "importance": lambda rows, _metric: _importance(rows),
    "pretraining": lambda rows, _metric: _pretraining(rows),
    "cost": lambda rows, _metric: _cost(rows),
    "failures": lambda rows, _metric: _failures(rows),
}
