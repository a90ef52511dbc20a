"""The simulated clock."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaquery.errors import InvalidInput
from metaquery.simulation import Simulation


def test_jobs_finish_in_time_order_and_ties_in_start_order() -> None:
    simulation: Simulation[str] = Simulation(3)
    for job, seconds in (("slow", 5.0), ("first", 2.0), ("second", 2.0)):
        simulation.start(job, seconds)
    assert simulation.free == 0
    assert simulation.next_finish == 2.0

    done = simulation.advance()

    assert [(run.job, run.worker, run.start, run.finish) for run in done] == [
        ("first", 1, 0.0, 2.0),
        ("second", 2, 0.0, 2.0),
    ]
    assert simulation.now == 2.0
    simulation.start("third", 1.0)  # the free worker with the lowest number
    (third,) = simulation.advance()
    assert (third.worker, third.start, third.finish) == (1, 2.0, 3.0)
    assert [run.job for run in simulation.advance()] == ["slow"]
    assert simulation.next_finish == math.inf


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
def test_workers_must_be_a_positive_integer(workers: object) -> None:
    with pytest.raises(InvalidInput, match="workers must be a positive integer"):
        Simulation(workers)  # type: ignore[arg-type]


@given(st.integers(1, 5), st.lists(st.floats(0, 100), min_size=1, max_size=40))
def test_no_worker_does_two_things_at_once_and_none_idles_needlessly(workers: int, durations: list[float]) -> None:
    simulation: Simulation[int] = Simulation(workers)
    waiting = list(enumerate(durations))
    runs = []
    while waiting or simulation.next_finish < math.inf:
        while waiting and simulation.free:
            simulation.start(*waiting.pop(0))
        runs += simulation.advance()

    assert sorted(run.job for run in runs) == list(range(len(durations)))
    assert [run.finish for run in runs] == sorted(run.finish for run in runs)
    for worker in range(workers):
        own = sorted((run.start, run.finish) for run in runs if run.worker == worker)
        assert all(finish <= start for (_, finish), (start, _) in itertools.pairwise(own))
    if len(durations) <= workers:
        assert all(run.start == 0.0 for run in runs)
