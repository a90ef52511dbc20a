"""Finished studies on disk: one small JSON file each, whole or not there, named after everything that defines it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import metaquery

PARTS = "parts"
Part = dict[str, Any]  # what `Studies` leaves of a study: outcome, incumbents and their configs, as plain JSON

# What has no part in the outcome of a study, as files and folders of the package: where they change, what was finished
# still counts. All other code decides, so that what is new does until somebody has looked.
READERS = (
    *("bench", "browse", "cli", "diagnostics", "drawing", "importers", "queries", "recommend", "report", "surrogates"),
    *("dense_summary.py", "description.py", "ensembles.py", "hub.py", "outputs.py", "predictions.py", "rescoring.py"),
    *("result.py", "sql.py", "testing.py", "verify.py", "verify_predictions.py", "views.py"),
    *("evaluation/analysis.py", "evaluation/compare.py", "evaluation/measures", "evaluation/outcome.py"),
    *("evaluation/progress.py", "evaluation/reference.py", "evaluation/statistics.py", "evaluation/transfer.py"),
    *("evaluation/verdict.py", "benchmarks/surrogate.py"),
)


class Parts:
    """The finished studies below `directory`, which is made with the first of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, key: str) -> Part | None:
        """The study `key`; None where it is not there, or damaged."""
        try:
            found = json.loads(self._path(key).read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("key") == key else None

    def write(self, key: str, part: Part) -> None:
        """Keep the study `key`, all or nothing."""
        self._directory.mkdir(parents=True, exist_ok=True)
        partial = self._path(key).with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps({**part, "key": key}, sort_keys=True))
        partial.replace(self._path(key))

    def tidy(self) -> None:
        """Remove what killed processes left half-written."""
        for path in self._directory.glob("*.partial"):
            path.unlink()

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}.json"


def part_key(definition: Mapping[str, Any]) -> str:
    """32 hexadecimal digits of `definition`, plain JSON, and of the code that turns it into an outcome."""
    content = json.dumps([definition, deciding_code(Path(metaquery.__file__).parent)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


@cache
def deciding_code(package: Path) -> str:
    """The hash of all Python files below `package` but those of READERS."""
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(package).as_posix(), path) for path in package.rglob("*.py")):
        if not any(name == reader or name.startswith(f"{reader}/") for reader in READERS):
            digest.update(f"{name}\0".encode() + path.read_bytes())
    return digest.hexdigest()
