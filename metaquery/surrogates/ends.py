"""How trials end, from what a surrogate predicts: of many at once, or of one in plain Python, several times as fast."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metaquery.surrogates.trials import Floats
from metaquery.types import SOUND, Status

_LATEST = 10.0  # logarithm of more epochs than any trial has, so that no prediction overflows


class Ends:
    """The `statuses` that trials of `epochs` end with; an end is a position among them.

    `log_epochs` are logarithms of one more than the number of epochs that a trial runs if not all. `sound` says of each
    end whether such a trial has not failed.
    """

    def __init__(self, statuses: Sequence[Status], epochs: int) -> None:
        self.statuses = tuple(statuses)
        self.sound = np.array([status in SOUND for status in statuses])
        self._epochs = epochs
        self._one = self.statuses == (Status.COMPLETED,)
        self._by_soundness = [np.flatnonzero(self.sound == sound).tolist() for sound in (True, False)]
        self._whole = np.array([status is Status.COMPLETED for status in statuses])
        self._least = np.array([int(status is Status.EARLY_STOPPED) for status in statuses])

    def likeliest(
        self, logits: NDArray[np.float32], log_epochs: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The ends of trials and how many epochs they run, (n,) each, from logits (n, ends) and `log_epochs` (n,).

        A trial fails where that is as likely as not, with the likeliest status of those.
        """
        if self._one:
            return np.zeros(len(logits), np.int64), np.full(len(logits), self._epochs)
        share = self._shares(logits)
        fails = share[~self.sound].sum(axis=0) >= 0.5 * share.sum(axis=0)
        end = np.where(self.sound[:, None] == fails, -1.0, share).argmax(axis=0)
        return end, self._ran(end, log_epochs)

    def likeliest_of_one(self, logits: NDArray[np.float32], log_epochs: np.float32) -> tuple[int, int]:
        """`likeliest` of one trial, from logits (ends,)."""
        if self._one:
            return 0, self._epochs
        values: list[float] = logits.tolist()
        top = max(values)
        share = [math.exp(value - top) for value in values]
        sound, failed = self._by_soundness
        fails = sum([share[end] for end in failed]) >= 0.5 * sum(share)
        end = max(failed if fails else sound, key=share.__getitem__)
        if self._whole[end]:
            return end, self._epochs
        ran = round(math.exp(min(float(log_epochs), _LATEST))) - 1
        return end, min(max(ran, int(self._least[end])), self._epochs - 1)

    def drawn(self, logits: NDArray[np.float32], log_epochs: np.float32, rng: np.random.Generator) -> tuple[int, int]:
        """As `likeliest_of_one`, but the end is drawn."""
        if self._one:
            return 0, self._epochs
        until = self._shares(logits[None])[:, 0].cumsum()
        end = np.searchsorted(until[:-1], rng.random(1) * until[-1], side="right")
        return int(end[0]), int(self._ran(end, np.array([log_epochs]))[0])

    def failure_probability(self, logits: NDArray[np.float32]) -> Floats:
        """The probability that each trial fails, (n,), from logits (n, ends)."""
        share = self._shares(logits)
        probability: Floats = share[~self.sound].sum(axis=0) / share.sum(axis=0)
        return probability

    def _ran(self, end: NDArray[np.int64], log_epochs: NDArray[np.float32]) -> NDArray[np.int64]:
        """How many epochs trials run, (n,), from their ends."""
        ran = np.rint(np.exp(np.minimum(log_epochs.astype(np.float64), _LATEST))).astype(np.int64) - 1
        ran = np.minimum(np.maximum(ran, self._least[end]), self._epochs - 1)
        return np.where(self._whole[end], self._epochs, ran)

    @staticmethod
    def _shares(logits: NDArray[np.float32]) -> Floats:
        """What the probabilities of the ends are in proportion to, (ends, n): in this order as there are few ends."""
        columns = np.array(logits.T, np.float64, order="C")
        shares: Floats = np.exp(columns - columns.max(axis=0))
        return shares
