"""Methods with observe_and_suggest, driven as HPO-B drives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from metaquery.errors import InvalidInput, OptimizerError
from metaquery.interop.hpo_b import HpoB, encode
from metaquery.study import Stop, run
from metaquery.testing import TOY_SPACE, SyntheticBenchmark
from metaquery.types import Budget, Task

SPACE = TOY_SPACE.core()
GRID = tuple(SPACE.grid())


class Recorder:
    """Suggests the last pending row, and keeps what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any]] = []

    def observe_and_suggest(self, X_obs: Any, y_obs: Any, X_pen: Any) -> int:
        self.calls.append((X_obs, y_obs, X_pen))
        return len(X_pen) - 1


def test_a_method_sees_encoded_rows_and_values_to_maximise() -> None:
    method = Recorder()
    bench = SyntheticBenchmark(space=SPACE, configs=GRID)
    done = run(HpoB(method, seed=3, n_initial=4), bench, Budget(seconds=1e9))

    points = {config: row.tolist() for config, row in zip(GRID, encode(SPACE, GRID), strict=True)}
    assert done.stop in (Stop.FINISHED, Stop.EXHAUSTED)
    assert {step.config for step in done.steps} == set(GRID)
    assert {step.epoch for step in done.steps} == {27}
    assert len(method.calls) == len(GRID) - 4
    for n, (x, y, pending) in enumerate(method.calls, start=4):
        steps = done.steps[:n]
        assert x.tolist() == [points[step.config] for step in steps]
        losses = [bench.metric.worst_loss if np.isnan(step.value) else step.value for step in steps]
        assert y[:, 0].tolist() == pytest.approx([1 - loss / bench.metric.worst_loss for loss in losses])
        assert pending[-1].tolist() == points[done.steps[n].config]
        assert sorted(pending.tolist()) == sorted(points[step.config] for step in done.steps[n:])


def test_the_encoding_is_one_hot_for_categories_and_zero_where_inactive() -> None:
    config = TOY_SPACE.complete({"backbone": "large", "optimizer": "adam", "batch": 32, "learning_rate": 1e-5})
    # small, large, sgd, adam, momentum (inactive), learning_rate, warmup, batch, head, width
    row = encode(TOY_SPACE, [config])[0]
    assert row[:5].tolist() == [0, 1, 0, 1, 0]
    assert row[5:9] == pytest.approx([0.0, 0.5 / 6, 2.5 / 3, 1.0])
    assert len(row) == 10


class Answers:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def observe_and_suggest(self, X_obs: Any, y_obs: Any, X_pen: Any) -> Any:
        return self.answer


@pytest.mark.parametrize("answer", [np.array([[0]]), [0], np.int64(0)])
def test_an_index_may_come_as_methods_return_it(answer: Any) -> None:
    bench = SyntheticBenchmark(space=SPACE, configs=GRID)
    assert len(run(HpoB(Answers(answer)), bench, Budget(trials=8), workers=3).steps) == 8


def test_bad_use_is_refused() -> None:
    bench = SyntheticBenchmark(space=SPACE, configs=GRID)
    with pytest.raises(OptimizerError, match="returned 99: expected a row of X_pen, 0 to"):
        run(HpoB(Answers(99)), bench, Budget(trials=8))
    with pytest.raises(InvalidInput, match="expected a benchmark with configs"):
        HpoB(Recorder()).bind(Task(TOY_SPACE, 27, 1.0))
    with pytest.raises(InvalidInput, match="n_initial must be at least 1"):
        HpoB(Recorder(), n_initial=0)
