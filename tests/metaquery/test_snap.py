"""The nearest config of a table stands in for one that is not in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metaquery as mq
from metaquery.errors import InvalidConfig, InvalidInput
from metaquery.optimizers import Optimizer
from metaquery.snap import Nearest
from metaquery.space import Config, Distances
from metaquery.testing import TOY_SPACE, SyntheticBenchmark
from metaquery.types import Budget

POOL = tuple(TOY_SPACE.sample(np.random.default_rng(seed)) for seed in range(12))


def samples(seed: int, n: int) -> list[Config]:
    rng = np.random.default_rng([seed, 77])
    return [TOY_SPACE.sample(rng) for _ in range(n)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_nearest_of_those_that_stood_in_for_none(seed: int) -> None:
    nearest, used = Nearest(TOY_SPACE, POOL), set[Config]()
    for config in samples(seed, len(POOL)):
        free = [member for member in POOL if member not in used]
        stand_in, distance = nearest(config)
        assert stand_in in free
        assert distance == Distances(TOY_SPACE, [stand_in])(config)[0] == Distances(TOY_SPACE, free)(config).min()
        used.add(stand_in)
    assert used == set(POOL)
    late = samples(seed, len(POOL) + 1)[-1]
    assert nearest(late)[1] == Distances(TOY_SPACE, POOL)(late).min()


def test_the_same_config_stays_where_it_was_and_members_are_themselves() -> None:
    nearest = Nearest(TOY_SPACE, POOL)
    first, second = samples(0, 2)
    assert nearest(first) == nearest(first)
    assert nearest(second)[0] != nearest(first)[0]
    taken = nearest(first)[0]
    assert nearest(taken) == (taken, 0.0)


class Scattered(Optimizer):
    """Asks anywhere in the space, first for one epoch, then for all of them."""

    def _ask(self, token: int) -> tuple[Config, int]:
        return samples(self.seed, 20)[(token // 2) % 20], (1, self.task.max_epochs)[token % 2]


def test_a_study_evaluates_the_stand_in_and_records_the_distance() -> None:
    bench = SyntheticBenchmark(configs=POOL, failing=0.0)
    trajectory = mq.run(Scattered(), bench, Budget(trials=24), snap="nearest")
    steps = trajectory.steps
    assert trajectory.stamp["snap"] == "nearest"
    assert [step.config for step in steps[0:24:2]] == [step.config for step in steps[1:24:2]]
    assert {step.config for step in steps} == set(POOL)
    asked = samples(0, 12)
    for step in steps:
        config = asked[step.order // 2]
        assert step.distance == Distances(TOY_SPACE, [step.config])(config)[0]
        assert step.value == bench.query(step.config, step.epoch).value
    assert trajectory.to_arrow()["distance"].to_pylist() == [step.distance for step in steps]


def test_without_snap_a_table_refuses(corpus: mq.Corpus) -> None:
    class Elsewhere(Optimizer):
        def _ask(self, token: int) -> tuple[Config, int]:
            off = {"backbone": "tiny.scratch", "learning_rate": 0.05, "optimizer": "adamw", "batch_size": 16}
            return corpus.space.config(off), 3

    bench = corpus.benchmark("alpha")
    with pytest.raises(InvalidConfig, match="is not in the table of alpha"):
        mq.run(Elsewhere(), bench, Budget(trials=1))
    step = mq.run(Elsewhere(), bench, Budget(trials=1), snap="nearest").steps[0]
    assert step.config in (bench.configs or ())
    assert (step.config["learning_rate"], step.config["batch_size"]) == (0.01, 32)
    assert step.distance > 0


def test_optimizers_that_know_tables_are_not_moved(corpus: mq.Corpus) -> None:
    trajectory = mq.run(mq.optimizer("random"), corpus.benchmark("alpha"), Budget(trials=10), snap="nearest")
    assert {step.distance for step in trajectory.steps} == {0.0}


def test_snap_is_for_tables() -> None:
    with pytest.raises(InvalidInput, match="snap is for tables"):
        mq.run(Scattered(), SyntheticBenchmark(), Budget(trials=1), snap="nearest")
    with pytest.raises(InvalidInput, match="snap must be nearest or left out, got 'furthest'"):
        mq.run(Scattered(), SyntheticBenchmark(configs=POOL), Budget(trials=1), snap="furthest")  # type: ignore[arg-type]
