"""From a protocol and the datasets of a corpus to folds, and the guard against leakage between their sides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from metaquery.errors import InvalidInput, LeakageError, UnknownName
from metaquery.evaluation.protocols.protocol import Protocol

if TYPE_CHECKING:
    from metaquery.corpus import Corpus

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Traits:
    """What protocols need to know of a dataset; `modality` is empty where the source does not say."""

    family: str
    modality: str = ""


@dataclass(frozen=True, slots=True)
class Fold:
    """One test dataset, and the datasets that may train and validate for it; made by `folds`, which checks leakage.

    `group` is what is left out together with the test dataset: its family or modality, or its group in a rotation.
    """

    test: str
    train: Names
    validation: Names = ()
    group: str = ""


def traits(corpus: Corpus) -> dict[str, Traits]:
    """Family and modality of every dataset of `corpus`."""
    rows = corpus.table("datasets", ["dataset", "family", "modality"]).to_pylist()
    return {row["dataset"]: Traits(row["family"], row["modality"] or "") for row in rows}


def folds(
    protocol: Protocol,
    datasets: Mapping[str, Traits],
    tests: Sequence[str] | None = None,
    train: Sequence[str] | None = None,
    validation: Sequence[str] | None = None,
) -> list[Fold]:
    """The folds of `protocol`, one per test dataset, each checked by `check_leakage`.

    `datasets` are all there are; `tests` are the test datasets, by default those of the protocol, in order. `train`
    and `validation` take the place of the training and validation datasets of every fold.
    """
    if protocol.scheme["scheme"] == "single" and (train is not None or validation is not None):
        raise InvalidInput(
            f"protocol {protocol.name} trains on nothing: leave the training datasets out, or use protocol fixed"
        )
    chosen = None if tests is None else _known(datasets, tests)
    found = _SCHEMES[protocol.scheme["scheme"]](_Request(protocol, datasets, chosen, train is not None))
    if chosen is not None:
        by_test = {fold.test: fold for fold in found}
        outside = [name for name in chosen if name not in by_test]
        if outside:
            raise InvalidInput(
                f"protocol {protocol.name} tests on {', '.join(by_test)}, not on {', '.join(outside)}: choose among "
                "the first, or another protocol"
            )
        found = [by_test[name] for name in chosen]
    families = {name: item.family for name, item in datasets.items()}
    if train is not None or validation is not None:
        own = (None if names is None else _known(datasets, names) for names in (train, validation))
        found = _replaced(found, families, *own)
    check_leakage(found, families)
    return found


def check_leakage(folds: Iterable[Fold], families: Mapping[str, str]) -> None:
    """Raise LeakageError, the pairs named, where a family stands on two sides of a fold: training, validation, test."""
    pairs: dict[str, None] = {}
    for fold in folds:
        sides = (("training", fold.train), ("validation", fold.validation), ("test", (fold.test,)))
        for i, (first, names) in enumerate(sides):
            for second, others in sides[i + 1 :]:
                pairs |= {
                    f"{name} ({first}) and {other} ({second}) of family {families[name]}": None
                    for name in names
                    for other in others
                    if families[name] == families[other]
                }
    if pairs:
        raise LeakageError(
            f"datasets of one family would stand on two sides of a fold: {'; '.join(pairs)}: leave one of each pair out"
        )


@dataclass(frozen=True)
class _Request:
    protocol: Protocol
    datasets: Mapping[str, Traits]
    tests: Names | None  # those asked for
    trained: bool  # whether training datasets are given from outside


def _leave_one_out(request: _Request) -> list[Fold]:
    unit = request.protocol.scheme["unit"]
    group = {
        name: name if unit == "dataset" else item.family if unit == "family" else item.modality
        for name, item in request.datasets.items()
    }
    nameless = [name for name, value in group.items() if not value]
    if nameless:
        raise InvalidInput(
            f"protocol {request.protocol.name} needs the {unit} of every dataset, which the corpus does not have for "
            f"{', '.join(nameless)}: use another protocol"
        )
    if len(set(group.values())) == 1 and unit == "modality" and not request.trained:
        raise InvalidInput(
            f"protocol {request.protocol.name} needs datasets of two modalities, all of the corpus are of "
            f"{next(iter(group.values()))}: use another protocol"
        )
    result = []
    for test in sorted(group, key=lambda name: (group[name], name)):
        family = request.datasets[test].family
        train = [n for n, item in request.datasets.items() if item.family != family and group[n] != group[test]]
        result.append(Fold(test, tuple(sorted(train)), group=group[test]))
    return result


def _rotation(request: _Request) -> list[Fold]:
    groups = request.protocol.scheme["groups"]
    dealt = (
        _dealt(request, groups) if isinstance(groups, int) else [_known(request.datasets, names) for names in groups]
    )
    _known(request.datasets, list(chain.from_iterable(dealt)))  # no dataset in two groups
    result = []
    for i, group in enumerate(dealt):
        validation = dealt[(i + 1) % len(dealt)]
        train = tuple(sorted(chain(*(other for other in dealt if other not in (group, validation)))))
        result += [Fold(test, train, tuple(sorted(validation)), f"group {i + 1}") for test in sorted(group)]
    return result


def _dealt(request: _Request, n: int) -> list[Names]:
    """`n` groups of whole families, by the rule that the schema states."""
    families: dict[str, list[str]] = {}
    for name in sorted(request.datasets):
        families.setdefault(request.datasets[name].family, []).append(name)
    if len(families) < n:
        raise InvalidInput(
            f"protocol {request.protocol.name} deals families to {n} groups, the corpus has {len(families)}: use "
            "another protocol, or your own with fewer groups"
        )
    dealt: list[list[str]] = [[] for _ in range(n)]
    for _, names in sorted(families.items(), key=lambda item: (-len(item[1]), item[0])):
        min(dealt, key=len).extend(names)
    return [tuple(sorted(names)) for names in dealt]


def _fixed(request: _Request) -> list[Fold]:
    scheme, name = request.protocol.scheme, request.protocol.name
    tests = _known(request.datasets, scheme["test"]) if "test" in scheme else request.tests
    if tests is None or not (request.trained or "train" in scheme):
        missing = "test" if tests is None else "training"
        raise InvalidInput(
            f"protocol {name} needs {missing} datasets: name them, or give the path of a protocol that does"
        )
    train, validation = (_known(request.datasets, scheme[k]) if k in scheme else () for k in ("train", "validation"))
    return [Fold(test, train, validation, "test") for test in tests]


def _single(request: _Request) -> list[Fold]:
    return [Fold(test, (), group=test) for test in sorted(request.datasets)]


_SCHEMES: Mapping[str, Callable[[_Request], list[Fold]]] = {
    "leave_one_out": _leave_one_out,
    "rotation": _rotation,
    "fixed": _fixed,
    "single": _single,
}


def _replaced(
    found: Sequence[Fold], families: Mapping[str, str], train: Names | None, validation: Names | None
) -> list[Fold]:
    """The folds with `train` and `validation` in place of their own; a side that was given stays as it is, and of the
    other the families that are on the given one are left out."""

    def without(names: Names, given: Names) -> Names:
        taken = {families[name] for name in given}
        return tuple(name for name in names if families[name] not in taken)

    result = []
    for fold in found:
        training = without(fold.train, validation or ()) if train is None else train
        validating = without(fold.validation, train or ()) if validation is None else validation
        result.append(Fold(fold.test, training, validating, fold.group))
    return result


def _known(datasets: Mapping[str, Traits], names: Sequence[str]) -> Names:
    for name in names:
        if name not in datasets:
            raise UnknownName.of("dataset", name, datasets)
    if not names or len(set(names)) != len(names):
        raise InvalidInput(f"expected at least one dataset, each once, got {', '.join(names) or 'none'}")
    return tuple(names)
