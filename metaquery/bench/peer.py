"""Asking a peer, which lives in another environment."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metaquery.errors import InvalidInput

PEERS = ("syne_tune", "mf_prior_bench", "yahpo")


def ask(peer: str, pythons: Mapping[str, Path], *arguments: object) -> dict[str, Any] | None:
    """What the file of `peer` prints when its Python runs it; None where no Python was given for it.

    Raises InvalidInput where that Python cannot be run, or fails.
    """
    if peer not in pythons:
        return None
    script = Path(__file__).parent / "peers" / f"{peer}.py"
    line = [str(pythons[peer]), str(script), *map(str, arguments)]
    try:
        done = subprocess.run(line, capture_output=True, text=True, check=False)
    except OSError as error:
        raise InvalidInput(f"{pythons[peer]} cannot be run ({error.strerror}): give the Python of {peer}") from error
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise InvalidInput(f"{peer} failed in {pythons[peer]}: {last}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
