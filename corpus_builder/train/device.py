"""Devices: names, an honest clock, determinism."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache

import torch

from metaquery.errors import InvalidInput


def resolve_device(name: str) -> torch.device:
    """The device called `name` (cpu, cuda, cuda:1), or InvalidInput when this machine does not have it."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InvalidInput(f"unknown device {name!r}: expected cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise InvalidInput(f"device {name!r} is not supported: expected cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InvalidInput(f"device {name!r} is not here: torch sees {torch.cuda.device_count()} CUDA devices; use cpu")
    return device


def device_name(device: torch.device) -> str:
    """Name of the hardware: the GPU's model, or the CPU's model and that one thread is used."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{_cpu_model()}, 1 thread"


@cache
def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as info:
            return next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), "CPU")
    except OSError:
        return platform.processor() or "CPU"


class Clock:
    """Seconds that a trial alone would take.

    On a GPU the wall clock, read after the queued work is done. On the CPU a trial runs on one thread, and the
    clock is the process's CPU time: what the wall clock would show were the machine not shared with others.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._started = self.now()

    def now(self) -> float:
        """Current reading, in seconds."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            return time.perf_counter()
        return time.process_time()

    def elapsed(self) -> float:
        """Seconds since the clock was made."""
        return self.now() - self._started


def mixed_precision(device: torch.device) -> AbstractContextManager[None]:
    """bfloat16 where matrices are multiplied, on a GPU; full precision on the CPU."""
    manager: AbstractContextManager[None] = torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"
    )
    return manager


def forked_rng(device: torch.device) -> AbstractContextManager[None]:
    """Let torch's generators of the CPU and `device` be used freely, and put them back afterwards."""
    manager: AbstractContextManager[None] = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    return manager


@contextmanager
def deterministic(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch for one trial and forbid non-deterministic kernels; global state is as before afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    threads = torch.get_num_threads()
    with forked_rng(device):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
            torch.set_num_threads(threads)


def is_out_of_memory(error: Exception) -> bool:
    """Whether `error` says that the device's memory is full."""
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError)
