"""Methods written for HPO-B (Pineda Arango et al., NeurIPS Datasets and Benchmarks 2021), run as optimizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import InvalidInput, OptimizerError
from metaquery.optimizers.base import Optimizer
from metaquery.space import Config, SearchSpace
from metaquery.types import Observation, Suggestion, Task

Array = NDArray[np.float64]


class Method(Protocol):
    """What HPO-B's handler calls."""

    def observe_and_suggest(self, X_obs: Array, y_obs: Array, X_pen: Array) -> Any:
        """The row of `X_pen`, shape (n_pending, d), to evaluate next, given what was observed, to be maximised."""


class HpoB(Optimizer):
    """A `method` with `observe_and_suggest` on a table, after `n_initial` random configs; all trained to the end.

    `X_obs` has shape (n, d), see `encode`, and `y_obs` shape (n, 1), as HPO-B hands them over; y is 1 for a loss of 0
    and 0 for the worst loss. Use it as `evaluate(corpus, {"mine": lambda seed: HpoB(Mine(seed), seed)}, ...)`.
    """

    def __init__(self, method: Method, seed: int = 0, n_initial: int = 5) -> None:
        super().__init__(seed)
        if n_initial < 1:
            raise InvalidInput(f"n_initial must be at least 1, got {n_initial}")
        self._method = method
        self._n_initial = n_initial

    def _bind(self, task: Task) -> None:
        if task.candidates is None:
            raise InvalidInput("a method of HPO-B chooses from a table: expected a benchmark with configs")
        self._points = encode(task.space, task.candidates)
        self._pending_rows = np.random.default_rng(self.seed).permutation(len(task.candidates)).tolist()
        self._rows: dict[int, int] = {}
        self._observed: list[tuple[int, float]] = []

    def _ask(self, token: int) -> tuple[Config, int] | None:
        if not self._pending_rows or self.task.candidates is None:
            return None
        position = 0
        if token >= self._n_initial and self._observed:
            rows, losses = zip(*self._observed, strict=True)
            y = 1 - np.array(losses)[:, None] / self.task.worst_loss
            chosen = self._method.observe_and_suggest(self._points[list(rows)], y, self._points[self._pending_rows])
            position = int(np.asarray(chosen).ravel()[0])
            if not 0 <= position < len(self._pending_rows):
                last = len(self._pending_rows) - 1
                raise OptimizerError(f"observe_and_suggest returned {position}: expected a row of X_pen, 0 to {last}")
        row = self._pending_rows.pop(position)
        self._rows[token] = row
        return self.task.candidates[row], self.task.max_epochs

    def _tell(self, suggestion: Suggestion, observation: Observation, loss: float) -> None:  # noqa: ARG002
        self._observed.append((self._rows[suggestion.token], loss))


def encode(space: SearchSpace, configs: Sequence[Config]) -> Array:
    """`configs` as HPO-B encodes them, shape (len(configs), d): one column in [0, 1] per number, one per category.

    Inactive hyperparameters are 0 everywhere.
    """
    columns = []
    for hp in space.hyperparameters:
        if hp.kind == "categorical":
            columns += [[float(config.get(hp.name) == choice) for config in configs] for choice in hp.choices]
        else:
            columns.append([hp.to_unit(config[hp.name]) if hp.name in config else 0.0 for config in configs])
    return np.array(columns, dtype=np.float64).T
