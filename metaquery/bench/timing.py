"""Timing on a machine that has other things to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def least(call: Callable[[], object], rounds: int = 7) -> float:
    """The least CPU seconds of `call` in some rounds."""
    return alternately({"": call}, rounds)[""]


def alternately(calls: Mapping[str, Callable[[], object]], rounds: int = 7) -> dict[str, float]:
    """The least CPU seconds of each of `calls`, which take turns."""
    found = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.process_time()
            call()
            found[name] = min(found[name], time.process_time() - began)
    return found
