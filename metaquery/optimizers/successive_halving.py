"""Successive halving (Jamieson and Talwalkar, AISTATS 2016), synchronous."""

from __future__ import annotations

from metaquery.optimizers._halving import Halving


class SuccessiveHalving(Halving):
    """Of eta^k new configs at the lowest rung, the best 1 in eta go on to the next, until one is trained fully.

    k + 1 is the number of rungs max, max / eta, max / eta^2 ... of at least one epoch: with eta 3 and 27 epochs, 27
    configs are trained for 1 epoch, 9 for 3, 3 for 9 and 1 for 27. Then it begins again with new configs.
    """

    def _sizes(self, bracket: int) -> list[int]:  # noqa: ARG002
        eta, n = self.options["eta"], len(self._rungs)
        return [eta**power for power in reversed(range(n))]
