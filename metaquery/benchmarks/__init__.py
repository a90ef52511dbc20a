"""Benchmarks: a corpus, or the real trainer, as seen by an optimizer.

`tabular` is built in. A package offers another kind through an entry point of the group `metaquery.benchmarks`, whose
name is the kind and whose object is a `BenchmarkFactory`.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol

from metaquery.benchmarks.base import Benchmark
from metaquery.errors import UnknownName

if TYPE_CHECKING:
    from metaquery.corpus import Corpus

__all__ = ["Benchmark", "BenchmarkFactory", "benchmark_kinds", "make_benchmark"]

_GROUP = "metaquery.benchmarks"


class BenchmarkFactory(Protocol):
    """Makes the benchmark of one dataset, fold and seed of a corpus."""

    def __call__(self, corpus: Corpus, *, dataset: str, metric: str, fold: int, seed: int) -> Benchmark:
        """Make it; raises UnknownName for a dataset, metric, fold or seed that is not there."""


def benchmark_kinds() -> tuple[str, ...]:
    """The kinds that can be made, sorted."""
    return tuple(sorted({"tabular", *entry_points(group=_GROUP).names}))


def make_benchmark(kind: str, corpus: Corpus, *, dataset: str, metric: str, fold: int, seed: int) -> Benchmark:
    """The benchmark of `kind` over `corpus`; raises UnknownName for an unknown kind."""
    return _factory(kind)(corpus, dataset=dataset, metric=metric, fold=fold, seed=seed)


def _factory(kind: str) -> BenchmarkFactory:
    if kind == "tabular":
        from metaquery.benchmarks.tabular import TabularBenchmark

        return TabularBenchmark.from_corpus
    for entry in entry_points(group=_GROUP, name=kind):
        factory: BenchmarkFactory = entry.load()
        return factory
    raise UnknownName.of("benchmark kind", kind, benchmark_kinds())
