"""Records that cross the boundaries between corpus, benchmark, optimizer and study."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, NamedTuple

from metaquery.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from metaquery.space import Config, SearchSpace

MAX_EPOCHS = 27  # full fidelity of the builder's studies: Hyperband and DEHB rungs with eta 3 are exactly 1, 3, 9, 27
EPOCHLESS_FAMILY = "radiomics"  # its backbones have no epochs: fitted whole, with one record, at epochs_planned

Split = Literal["val", "test"]
Charging = Literal["resume", "restart"]
Snap = Literal["nearest"]


class Status(StrEnum):
    """How a trial ended."""

    COMPLETED = "completed"
    EARLY_STOPPED = "early_stopped"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    FAILED = "failed"


class Suggestion(NamedTuple):  # these three as immutable as frozen dataclasses, and made several times as fast
    """What an optimizer wants evaluated: `config` trained up to and including `epoch` (1-based).

    `token` identifies this ask among all asks of one optimizer, so that the same config and epoch asked
    twice stay two suggestions.
    """

    config: Config
    epoch: int
    token: int


class Observation(NamedTuple):
    """What an evaluation gave. Never holds test information.

    `value` is the validation loss to minimise (for AUC: 1 - AUC), NaN where the trial did not reach the epoch. A trial
    that stopped by its own rule (`early_stopped`) has reached them all: its last value stands.
    `cost_seconds` is the trial's own training and evaluation time from its first epoch to the asked one (or to
    where it ended).
    """

    value: float
    cost_seconds: float
    status: Status

    @property
    def ok(self) -> bool:
        """Whether the value can be used."""
        return math.isfinite(self.value)


class Outcome(NamedTuple):
    """An evaluation as a study records it: what the optimizer may see, and the test loss that it may not (NaN where
    there is none). `epochs_run` is how many of the epochs asked for really ran."""

    observation: Observation
    test: float
    epochs_run: int


STATUSES = tuple(Status)
SOUND = (Status.COMPLETED, Status.EARLY_STOPPED)  # how trials end that have not failed

make = tuple.__new__
"""`make(Observation, (value, cost, status))` is a named tuple without the Python call of its own constructor: half the
time, where millions are made."""


@dataclass(frozen=True, slots=True)
class Observations:
    """What many evaluations gave, as arrays of shape (n,): see `Observation`; `status` are positions in STATUSES."""

    value: NDArray[np.float64]
    cost_seconds: NDArray[np.float64]
    status: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Curve:
    """One trial's epochs as a benchmark sees them.

    `value` and `test` are losses to minimise, shape (epochs_run,), `test` NaN where there are none; `seconds` is the
    cost of each epoch, shape (epochs_run,); `status` says how the trial ended, `epochs_planned` how far it was meant to
    go and `failure_seconds` what it spent beyond its last finished epoch (0 where it did not fail).
    """

    value: NDArray[np.float64]
    test: NDArray[np.float64]
    seconds: NDArray[np.float64]
    status: Status
    epochs_planned: int
    failure_seconds: float = 0.0

    @property
    def epochs_run(self) -> int:
        """Number of epochs that really ran."""
        return len(self.value)

    def stands(self, epoch: int) -> int | None:
        """The position of the values that hold at `epoch`: its own, or the last ones where the trial stopped early.

        None where the trial did not get so far.
        """
        if epoch <= self.epochs_run:
            return epoch - 1
        return self.epochs_run - 1 if self.status is Status.EARLY_STOPPED and self.epochs_run else None

    @classmethod
    def without_epochs(cls, value: float, test: float, seconds: float, status: Status, epochs: int) -> Curve:
        """The curve of a config that has no epochs: fitted whole by the first query, whatever epoch it asks for.

        Its values are the same at every one of `epochs`, and all that it costs is charged with the first; training on
        costs nothing. In a budget of epochs it counts like any other config, by the epoch that was asked for.
        """
        import numpy as np

        cost = np.zeros(epochs)
        cost[0] = seconds
        return cls(np.full(epochs, value), np.full(epochs, test), cost, status, epochs)


@dataclass(frozen=True, slots=True)
class Task:
    """What an optimizer is told before its first ask.

    `candidates` are the only configs that can be evaluated (a table's rows), or None where any config of
    `space` can. With `snapped`, any other config of `space` may be asked for too, and the nearest candidate that nobody
    asked for yet stands in. `worst_loss` is the finite loss that a failed evaluation stands for.
    """

    space: SearchSpace
    max_epochs: int
    worst_loss: float
    candidates: tuple[Config, ...] | None = None
    snapped: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """When a study ends: after seconds, newly trained epochs or finished evaluations; at least one of them."""

    seconds: float | None = None
    epochs: int | None = None
    trials: int | None = None

    def __post_init__(self) -> None:
        limits = {"seconds": self.seconds, "epochs": self.epochs, "trials": self.trials}
        given = {name: limit for name, limit in limits.items() if limit is not None}
        if not given:
            raise InvalidInput("a budget needs at least one limit: expected seconds, epochs or trials, got none")
        for name, limit in given.items():
            if not (math.isfinite(limit) and limit > 0):
                raise InvalidInput(f"budget {name} must be a positive number, got {limit!r}")


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `90`, `90s`, `45m`, `1.5h` or `2d`."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        seconds = float(number) * units[unit]
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise InvalidInput(
            f"{text!r} is not a duration: expected a positive number with s, m, h or d, such as 45m or 1h"
        )
    return seconds
