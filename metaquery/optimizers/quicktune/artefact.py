"""What meta-training leaves: weights and how to read configs, in one safetensors file; kept by content, no pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaquery.cache import cache_directory
from metaquery.errors import InvalidInput
from metaquery.optimizers.history import DatasetHistory
from metaquery.optimizers.quicktune.encoding import Encoder

VERSION = 2  # of the format, and of everything that decides the weights
_KEY = "quicktune"


@dataclass(frozen=True)
class Settings:
    """What meta-training depends on beside its data."""

    steps: int = 10_000
    grey_box: bool = True  # whether the predictors read the curve so far
    metafeatures: bool = True  # whether they read the dataset's meta-features
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InvalidInput(f"meta-training needs at least one step, got {self.steps}")


@dataclass(frozen=True)
class Artefact:
    """Meta-trained predictors.

    `key` identifies training data and settings, `families` are those of the training data, `weights` hold the
    parameters of both predictors, and `report` says which datasets trained and which validated, the validation losses
    and the seconds it took.
    """

    key: str
    encoder: Encoder
    settings: Settings
    families: tuple[str, ...]
    weights: Mapping[str, NDArray[np.float64]]
    report: Mapping[str, Any]

    def describe(self) -> str:
        """What it is, for a person: one line each for data, validation and time."""
        loss = self.report["validation_loss"]
        return (
            f"quicktune {self.key}: {self.settings.steps} steps in {self.report['seconds']:.0f} s\n"
            f"trained on {', '.join(self.report['training'])}\n"
            f"validated on {', '.join(self.report['validation'])}: negative log likelihood {loss['performance']:.3f}, "
            f"squared error of log seconds {loss['cost']:.3f}"
        )

    def part(self, name: str) -> dict[str, NDArray[np.float64]]:
        """The parameters of the predictor `name`: `performance` or `cost`."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.weights.items() if key.startswith(prefix)}

    def save(self, path: Path) -> None:
        """Write it, all or nothing."""
        from safetensors.numpy import save

        document = {
            "version": VERSION,
            "key": self.key,
            "encoder": self.encoder.to_json(),
            "settings": asdict(self.settings),
            "families": list(self.families),
            "report": dict(self.report),
        }
        content = save(dict(self.weights), metadata={_KEY: json.dumps(document, sort_keys=True)})
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            raise InvalidInput(f"{path} cannot be written ({error.strerror}): choose another place") from error

    @classmethod
    def load(cls, path: str | Path) -> Artefact:
        """Read it; InvalidInput where the file is missing, damaged or of another version."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                document = json.loads((file.metadata() or {})[_KEY])
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            if document["version"] == VERSION:
                settings = Settings(**document["settings"])
                encoder = Encoder.from_json(document["encoder"])
                families = tuple(document["families"])
                return cls(document["key"], encoder, settings, families, weights, document["report"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InvalidInput(
                f"{path} is not an artefact of metaquery meta-train ({reason}): make one with that command"
            ) from error
        raise InvalidInput(
            f"{path} is of version {document['version']}, expected {VERSION}: run  metaquery meta-train  again"
        )


def content_key(
    training: Sequence[DatasetHistory], settings: Settings, validation: Sequence[DatasetHistory] = ()
) -> str:
    """32 hexadecimal digits of what decides an artefact: data in any order, settings and version."""
    digest = hashlib.sha256(json.dumps([VERSION, asdict(settings)], sort_keys=True).encode())
    for role, items in (("training", training), ("validation", validation)):
        for item in sorted(items, key=lambda item: item.dataset):
            ids = [config.config_id for config in item.configs]
            facts = [role, item.dataset, item.family, dict(item.metafeatures), ids]
            digest.update(json.dumps(facts, sort_keys=True).encode())
            for values in (item.losses, item.seconds):
                digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
    return digest.hexdigest()[:32]


def cached_path(key: str) -> Path:
    """Where the artefact `key` is kept, in the user's cache directory."""
    return cache_directory() / "quicktune" / f"{key}.safetensors"
