"""The simulated clock."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaquery.errors import InvalidInput
from metaquery.simulation import Event, Simulation


def advance(simulation: Simulation[Any]) -> list[Event[Any]]:
    assert simulation.wait(math.inf)
    return list(simulation.events())


def test_jobs_finish_in_time_order_and_ties_in_start_order() -> None:
    simulation: Simulation[str] = Simulation(3)
    for job, seconds in (("slow", 5.0), ("first", 2.0), ("second", 2.0)):
        simulation.start(job, [(seconds, True)])
    assert simulation.free == 0

    done = advance(simulation)

    assert [(event.run.job, event.run.worker, event.run.start, event.seconds) for event in done] == [
        ("first", 1, 0.0, 2.0),
        ("second", 2, 0.0, 2.0),
    ]
    assert simulation.now == 2.0
    simulation.start("third", [(1.0, True)])  # the free worker with the lowest number
    (third,) = advance(simulation)
    assert (third.run.worker, third.run.start, third.seconds) == (1, 2.0, 3.0)
    assert [event.run.job for event in advance(simulation)] == ["slow"]
    assert not simulation.busy
    assert not simulation.wait(7.0)
    assert simulation.now == 7.0


def test_a_run_that_is_stopped_has_no_further_stage() -> None:
    simulation: Simulation[str] = Simulation(1, start_delay=0.5, stop_delay=0.25)
    simulation.start("job", [(1.0, False), (1.0, False), (2.0, True)])
    found = []
    assert simulation.wait(math.inf)
    for event in simulation.events():
        found.append((event.stage, event.seconds))
        simulation.stop(event.run)
    assert found == [(0, 1.5)]
    assert (simulation.free, simulation.busy) == (0, False)
    assert advance(simulation) == []
    assert (simulation.free, simulation.now) == (1, 1.75)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
def test_workers_must_be_a_positive_integer(workers: object) -> None:
    with pytest.raises(InvalidInput, match="workers must be a positive integer"):
        Simulation(workers)  # type: ignore[arg-type]


@given(st.integers(1, 5), st.lists(st.floats(0, 100), min_size=1, max_size=40))
def test_no_worker_does_two_things_at_once_and_none_idles_needlessly(workers: int, durations: list[float]) -> None:
    simulation: Simulation[int] = Simulation(workers)
    waiting = list(enumerate(durations))
    runs = []
    while waiting or simulation.busy:
        while waiting and simulation.free:
            number, seconds = waiting.pop(0)
            simulation.start(number, [(seconds, True)])
        runs += [(event.run.job, event.run.worker, event.run.start, event.seconds) for event in advance(simulation)]

    assert sorted(job for job, *_ in runs) == list(range(len(durations)))
    assert [finish for *_, finish in runs] == sorted(finish for *_, finish in runs)
    for worker in range(workers):
        own = sorted((start, finish) for _, on, start, finish in runs if on == worker)
        assert all(finish <= start for (_, finish), (start, _) in itertools.pairwise(own))
    if len(durations) <= workers:
        assert all(start == 0.0 for _, _, start, _ in runs)
