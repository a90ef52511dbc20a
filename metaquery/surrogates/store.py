"""Surrogates as files: one npz archive of plain arrays, with a JSON header among them.

The surrogate of a metric lies beside its corpus, in `surrogate/METRIC.npz` of the corpus's directory, or in the user's
cache. It is not in the manifest: it is made from the sealed corpus, whose hash it names.
"""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metaquery.cache import cache_directory
from metaquery.errors import InvalidInput
from metaquery.metrics import Metric, metric
from metaquery.schema.documents import SURROGATES
from metaquery.space import SearchSpace
from metaquery.surrogates.model import Knowledge, Surrogate
from metaquery.surrogates.network import Network
from metaquery.surrogates.targets import Scale
from metaquery.surrogates.trials import Task
from metaquery.types import Status

if TYPE_CHECKING:
    from metaquery.corpus import Corpus


def save(surrogate: Surrogate, path: Path) -> None:
    """Write `surrogate` to `path`, all or nothing; raises InvalidInput where that cannot be done."""
    knowledge, scale = surrogate.knowledge, surrogate.scale
    header = {
        "version": _version(surrogate.metric),
        "metric": surrogate.metric.name,
        "epochs": surrogate.epochs,
        "space": surrogate.space.to_json(),
        "tasks": [asdict(task) for task in surrogate.tasks],
        "epochless": sorted(surrogate.epochless),
        "ends": list(knowledge.ends),
        "noise_source": knowledge.noise_source,
        "threshold": knowledge.threshold,
        "backbones": dict(knowledge.backbones),
        "stamp": dict(surrogate.stamp),
    }
    arrays: dict[str, Any] = {
        "header": np.array(json.dumps(header, sort_keys=True)),
        "residual": knowledge.residual,
        "noise": knowledge.noise,
        **{f"scale_{name}": getattr(scale, name) for name in ("offset", "scale", "mean", "basis")},
        **{f"weight_{layer}": value for layer, value in enumerate(surrogate.network.weights)},
        **{f"bias_{layer}": value for layer, value in enumerate(surrogate.network.biases)},
    }
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InvalidInput(f"{path} cannot be written ({error.strerror}): choose another place") from error


def load(path: Path) -> Surrogate:
    """Read the surrogate at `path`; InvalidInput where it is missing, damaged or of another version."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            header = json.loads(str(arrays["header"]))
            expected = _version(metric(header["metric"]))
            if header["version"] == expected:
                return _from(header, arrays)
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise InvalidInput(f"{path} is not a surrogate ({reason}): make one with  metaquery surrogate train") from error
    raise InvalidInput(
        f"{path} is of version {header['version']}, expected {expected}: run  metaquery surrogate train  again"
    )


def _version(measure: Metric) -> int:
    """The version of files: 2 where logarithms of losses are learned, which version 1 did not do, else 1."""
    return 2 if measure.logarithmic else 1


def _from(header: dict[str, Any], arrays: Any) -> Surrogate:
    return Surrogate(
        metric=header["metric"],
        epochs=header["epochs"],
        space=SearchSpace.from_json(header["space"]),
        tasks=[Task(**task) for task in header["tasks"]],
        epochless=frozenset(header["epochless"]),
        scale=Scale(*(arrays[f"scale_{name}"] for name in ("offset", "scale", "mean", "basis"))),
        network=Network(
            tuple(arrays[f"weight_{layer}"] for layer in range(3)), tuple(arrays[f"bias_{layer}"] for layer in range(3))
        ),
        knowledge=Knowledge(
            ends=tuple(map(Status, header["ends"])),
            residual=arrays["residual"],
            noise=arrays["noise"],
            noise_source=header["noise_source"],
            threshold=header["threshold"],
            backbones=header["backbones"],
        ),
        stamp=header["stamp"],
    )


def places(corpus: Corpus, metric: str) -> list[Path]:
    """Where the surrogate of `corpus` is looked for: beside the corpus, and in the cache."""
    name = f"{metric}.npz"
    beside = [corpus.root / SURROGATES / name] if hasattr(corpus, "root") else []
    return [*beside, cache_directory() / SURROGATES / corpus.hash / name]


def find(corpus: Corpus, metric: str, file: str | Path | None = None) -> Surrogate:
    """The surrogate of `corpus` for `metric`, from `file` or where `places` says.

    Raises InvalidInput where there is none, or where it was learned from another corpus or for another metric.
    """
    candidates = places(corpus, metric) if file is None else [Path(file)]
    path = next((place for place in candidates if place.is_file()), None)
    if path is None:
        missing = f"no surrogate of corpus {corpus.name} for {metric}" if file is None else f"{file} is not there"
        raise InvalidInput(f"{missing}: make one with  metaquery surrogate train SOURCE --metric {metric}")
    surrogate = load(path)
    if surrogate.stamp.get("corpus_hash") != corpus.hash:
        made, version, digest = (surrogate.stamp.get(name) for name in ("corpus", "corpus_version", "corpus_hash"))
        raise InvalidInput(
            f"{path} was learned from another corpus ({made} {version}, hash {str(digest)[:12]}) than {corpus.name} "
            f"{corpus.version} ({corpus.hash[:12]}): run  metaquery surrogate train  for this one"
        )
    if surrogate.metric.name != metric:
        raise InvalidInput(
            f"{path} is for {surrogate.metric.name}, not {metric}: run  metaquery surrogate train SOURCE "
            f"--metric {metric}"
        )
    return surrogate
