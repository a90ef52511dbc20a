"""Protocols: which datasets may train a meta-learner, and which one tests it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from metaquery.errors import InvalidInput, LeakageError, UnknownName


@dataclass(frozen=True, slots=True)
class Fold:
    """One test dataset, and the datasets that may train for it; made by `folds`, which checks for leakage."""

    test: str
    train: tuple[str, ...]


PROTOCOLS = {
    "lodo": "leave one dataset out: all other datasets train, but for those of the test dataset's family",
    "single": "each dataset alone: nothing trains",
}


def folds(
    protocol: str,
    families: Mapping[str, str],
    datasets: Sequence[str] | None = None,
    train: Sequence[str] | None = None,
) -> list[Fold]:
    """The folds of `protocol`, one per test dataset.

    `families` holds the family of every dataset there is; `datasets` are the test datasets, all by default. With
    `train`, exactly those datasets train for every test dataset: a LeakageError names the pairs where one of them
    is of the family of a test dataset.
    """
    if protocol not in PROTOCOLS:
        raise UnknownName.of("protocol", protocol, PROTOCOLS)
    tests = _known(families, sorted(families) if datasets is None else datasets)
    if train is not None:
        if protocol == "single":
            raise InvalidInput("protocol single trains on nothing: leave the training datasets out, or use lodo")
        chosen = _known(families, train)
        result = [Fold(test, chosen) for test in tests]
    elif protocol == "single":
        result = [Fold(test, ()) for test in tests]
    else:
        result = [Fold(test, tuple(sorted(d for d in families if families[d] != families[test]))) for test in tests]
    check_leakage(result, families)
    return result


def check_leakage(folds: Iterable[Fold], families: Mapping[str, str]) -> None:
    """Raise LeakageError where a dataset trains for a test dataset of its own family (itself included)."""
    pairs = [
        f"{train} and {fold.test} (family {families[train]})"
        for fold in folds
        for train in fold.train
        if families[train] == families[fold.test]
    ]
    if pairs:
        raise LeakageError(
            f"datasets of one family would stand on both sides, training and test: {'; '.join(pairs)}: "
            "leave them out of the training datasets"
        )


def _known(families: Mapping[str, str], names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        if name not in families:
            raise UnknownName.of("dataset", name, families)
    if not names or len(set(names)) != len(names):
        raise InvalidInput(f"expected at least one dataset, each once, got {', '.join(names) or 'none'}")
    return tuple(names)
