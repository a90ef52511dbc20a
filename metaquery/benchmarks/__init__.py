"""Benchmarks: a corpus, or the real trainer, as seen by an optimizer.

`tabular` and `surrogate` are built in. A package offers another kind through an entry point of the group
`metaquery.benchmarks`, whose name is the kind and whose object is a `BenchmarkFactory`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from inspect import signature
from typing import TYPE_CHECKING, Any

from metaquery.benchmarks.base import Benchmark
from metaquery.errors import UnknownName

if TYPE_CHECKING:
    from metaquery.corpus import Corpus

__all__ = ["Benchmark", "BenchmarkFactory", "benchmark_kinds", "make_benchmark"]

BenchmarkFactory = Callable[..., Benchmark]
"""Makes the benchmark of one dataset, fold and seed of a corpus.

It is called with the corpus and the keywords dataset, metric, fold and seed, and raises UnknownName for one that is not
there. Further keyword arguments, with defaults, are the options of the kind.
"""

_GROUP = "metaquery.benchmarks"
_BUILT_IN = ("tabular", "surrogate")
_COMMON = ("corpus", "dataset", "metric", "fold", "seed")


def benchmark_kinds() -> tuple[str, ...]:
    """The kinds that can be made, sorted."""
    return tuple(sorted({*_BUILT_IN, *entry_points(group=_GROUP).names}))


def make_benchmark(
    kind: str, corpus: Corpus, *, dataset: str, metric: str, fold: int, seed: int, **options: Any
) -> Benchmark:
    """The benchmark of `kind` over `corpus`; raises UnknownName for an unknown kind or an option it does not have."""
    factory = _factory(kind)
    known = [name for name in signature(factory).parameters if name not in _COMMON]
    for name in options:
        if name not in known:
            raise UnknownName.of(f"option of benchmark kind {kind}", name, known)
    return factory(corpus, dataset=dataset, metric=metric, fold=fold, seed=seed, **options)


def _factory(kind: str) -> BenchmarkFactory:
    if kind == "tabular":
        from metaquery.benchmarks.tabular import TabularBenchmark

        return TabularBenchmark.from_corpus
    if kind == "surrogate":
        from metaquery.benchmarks.surrogate import SurrogateBenchmark

        return SurrogateBenchmark.from_corpus
    for entry in entry_points(group=_GROUP, name=kind):
        factory: BenchmarkFactory = entry.load()
        return factory
    raise UnknownName.of("benchmark kind", kind, benchmark_kinds())
