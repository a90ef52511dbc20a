"""What `metaquery surrogate` does."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaquery.outputs import write_json
from metaquery.surrogates.store import places, save
from metaquery.surrogates.training import train

if TYPE_CHECKING:
    from metaquery.corpus import Corpus

_LINES = 10  # of progress


def train_and_save(corpus: Corpus, metric: str | None, out: Path | None, seed: int) -> Path:
    """Train the surrogate of `corpus` and write it to `out`, by default beside the corpus, or in the cache where that
    directory cannot be written; returns the file."""
    metric = corpus.default_metric if metric is None else metric
    path = out
    if path is None:
        path = next((p for p in places(corpus, metric)[:-1] if os.access(p.parents[1], os.W_OK)), None)
    surrogate = train(corpus, metric, seed=seed, progress=_tell)
    path = places(corpus, metric)[-1] if path is None else path
    save(surrogate, path)
    _say(f"{surrogate.stamp['trials']} trials learned in {surrogate.stamp['cpu_seconds']:.0f} s of processor time")
    return path


def evaluate_and_tell(
    corpus: Corpus,
    metrics: Sequence[str] | None,
    families: Sequence[str],
    parts: int,
    optimizers: Sequence[str] | None,
    seeds: int,
    out: Path | None,
) -> Iterator[str]:
    """Tables of quality and of agreement for each metric; the numbers are written to `out`, and the optimizers' ranks
    on table and surrogate to the page of the same name that ends in `.md`."""
    from metaquery.surrogates.agreement import OPTIMIZERS, agree
    from metaquery.surrogates.quality import evaluate

    document: dict[str, Any] = {"corpus": corpus.name, "version": corpus.version, "hash": corpus.hash, "metrics": {}}
    pages = []
    for metric in metrics or [corpus.default_metric]:
        quality = evaluate(corpus, metric, families, parts, say=_say)
        yield str(quality)
        document["metrics"][metric] = {"quality": quality.to_json()}
        if seeds:
            agreement = agree(corpus, metric, optimizers or OPTIMIZERS, seeds, _say)
            yield f"\n{agreement}"
            document["metrics"][metric]["agreement"] = agreement.to_json()
            pages.append(agreement.to_markdown())
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, document)
        if pages:
            out.with_suffix(".md").write_text("\n".join(pages), encoding="utf-8")


def _tell(what: str, done: int, of: int) -> None:
    if done * _LINES // of > (done - 1) * _LINES // of:
        _say(f"{what}: {done}/{of} steps")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
