"""A slow simulator of studies, written from the rules alone: time is searched for the next thing that happens."""

from __future__ import annotations

from typing import Any

from metaquery.benchmarks.base import Benchmark
from metaquery.optimizers.base import Optimizer
from metaquery.types import Observation

Trace = list[tuple[int, str, int, int, float, float]]
"""Worker, config_id, epoch reached, new epochs, start and finish of every evaluation that counts."""


def reference_trace(
    optimizer: Optimizer,
    bench: Benchmark,
    seconds: float,
    workers: int,
    charging: str,
    start_delay: float,
    stop_delay: float,
) -> Trace:
    """The trace of a study with a budget of `seconds` on a table."""
    optimizer.bind(bench.task)
    now, started, complete = 0.0, 0, set()
    trace: Trace = []
    trained: dict[str, tuple[int, float]] = {}
    slots: list[dict[str, Any] | None] = [None] * workers
    free_from = [0.0] * workers  # when a worker that has no job can take one
    while True:
        for worker in range(workers):
            if slots[worker] is None and free_from[worker] <= now and not optimizer.finished:
                suggestion = optimizer.ask()
                if suggestion is None:
                    break
                started += 1
                config = suggestion.config
                base = trained.get(config.config_id, (0, 0.0)) if charging == "resume" else (0, 0.0)
                slots[worker] = {
                    "suggestion": suggestion,
                    "start": now,
                    "base": base,
                    "epoch": _next_epoch(optimizer, base[0], suggestion.epoch),
                    "number": started,
                }
        if optimizer.finished and not any(slots):
            return trace
        times = [(_when(slot, bench, start_delay), slot["number"], w) for w, slot in enumerate(slots) if slot]
        times += [(free_from[w], 0, -1) for w, slot in enumerate(slots) if slot is None and free_from[w] > now]
        now = min(times)[0]
        if now > seconds:
            return trace
        while True:
            due = sorted(
                (slot["number"], w) for w, slot in enumerate(slots) if slot and _when(slot, bench, start_delay) == now
            )
            if not due:
                break
            worker = due[0][1]
            slot = slots[worker]
            assert slot is not None
            suggestion, epoch = slot["suggestion"], slot["epoch"]
            observation = bench.query(suggestion.config, epoch)
            ran = min(epoch, bench.curve(suggestion.config).epochs_run)
            if epoch < suggestion.epoch and ran == epoch and optimizer.report(suggestion, epoch, observation):
                slot["epoch"] += 1
                continue
            reached = suggestion.epoch if ran < epoch else epoch
            before = trained.get(suggestion.config.config_id, (0, 0.0))
            trained[suggestion.config.config_id] = max(before[0], ran), max(before[1], observation.cost_seconds)
            new = max(ran - slot["base"][0], 0)
            trace.append((worker, suggestion.config.config_id, reached, new, slot["start"], now))
            optimizer.tell(suggestion, observation)
            if ran < reached or reached == bench.epochs:
                complete.add(suggestion.config)
            if len(complete) == len(bench.configs or ()):
                return trace
            slots[worker], free_from[worker] = None, now + stop_delay


def _next_epoch(optimizer: Optimizer, before: int, asked: int) -> int:
    return min(before + 1, asked) if optimizer.stops else asked


def _when(slot: dict[str, Any], bench: Benchmark, start_delay: float) -> float:
    observation: Observation = bench.query(slot["suggestion"].config, slot["epoch"])
    return float(slot["start"] + start_delay + max(observation.cost_seconds - slot["base"][1], 0.0))
