"""The records that cross boundaries."""

from __future__ import annotations

import math

import numpy as np
import pytest

from metaquery.errors import InvalidInput
from metaquery.schema import table
from metaquery.types import MAX_EPOCHS, Budget, Curve, Observation, Status, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ("90s", 90.0), ("45m", 2700.0), ("1.5h", 5400.0), ("2d", 172800.0), ("1e3", 1000.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1h", "0", "1w", "nan", "inf", "one hour", "1h30m"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a duration: expected a positive number with s, m, h or d"):
        parse_duration(text)


def test_budgets() -> None:
    assert Budget(epochs=3) == Budget(seconds=None, epochs=3, trials=None)
    with pytest.raises(InvalidInput, match="at least one limit"):
        Budget()


@pytest.mark.parametrize("limit", [0, -1, math.inf, math.nan])
@pytest.mark.parametrize("name", ["seconds", "epochs", "trials"])
def test_budgets_that_never_or_always_end(name: str, limit: float) -> None:
    with pytest.raises(InvalidInput, match=f"budget {name} must be a positive number"):
        Budget(**{name: limit})


def test_observations_hold_no_test_information() -> None:
    assert Observation._fields == ("value", "cost_seconds", "status")
    assert Observation(0.1, 1.0, Status.COMPLETED).ok
    assert not Observation(math.nan, 1.0, Status.DIVERGED).ok


def test_curves_count_their_epochs() -> None:
    values = np.array([0.3, 0.2])
    assert Curve(values, values, values, Status.TIMED_OUT, 27).epochs_run == 2


def test_one_list_of_statuses() -> None:
    column = next(column for column in table("trials").columns if column.name == "status")
    assert column.values == tuple(Status)


def test_full_fidelity_gives_whole_rungs() -> None:
    assert [MAX_EPOCHS // 3**k for k in (3, 2, 1, 0)] == [1, 3, 9, 27]
