"""What packages change for the whole program, kept to the time in which they work."""

# ruff: noqa: NPY002  (the legacy global generator is what this is about)

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


class OwnGenerators:
    """Global random states of their own, which come after `seed` and go on from one `with` to the next.

    Inside `with own():` Python's and NumPy's global generators are these; outside they are as they were.
    """

    def __init__(self, seed: int) -> None:
        self._python: object = random.Random(seed).getstate()
        self._numpy = np.random.RandomState(seed).get_state()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Swap them in, and out again at the end."""
        outside = random.getstate(), np.random.get_state()
        random.setstate(self._python)  # type: ignore[arg-type]
        np.random.set_state(self._numpy)
        try:
            yield
        finally:
            self._python, self._numpy = random.getstate(), np.random.get_state()
            random.setstate(outside[0])
            np.random.set_state(outside[1])


@contextmanager
def quiet(package: str) -> Iterator[None]:
    """Only errors from the loggers of `package`."""
    logger = logging.getLogger(package)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
