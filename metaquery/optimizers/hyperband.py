"""Hyperband (Li et al., JMLR 18, 2018), synchronous."""

from __future__ import annotations

from metaquery.optimizers._halving import Halving


class Hyperband(Halving):
    """Brackets of successive halving from the most exploring one to full training of a few, over and over.

    With eta 3 and 27 epochs: 27 configs from epoch 1, 12 from 3, 6 from 9, and 4 trained fully.
    """

    def _sizes(self, bracket: int) -> list[int]:
        eta, n = self.options["eta"], len(self._rungs)
        halvings = n - 1 - bracket % n  # s of the paper; n - 1 is its s_max
        first = -(-n * eta**halvings // (halvings + 1))  # rounded up
        return [first // eta**rung for rung in range(halvings + 1)]
