"""What every benchmark has of its base: one hook is enough where the beginning of a curve costs less than all of it."""

from __future__ import annotations

import numpy as np

from metaquery.benchmarks import Benchmark
from metaquery.metrics import metric
from metaquery.space import Config, Hyperparameter, SearchSpace
from metaquery.types import Curve, Observation, Outcome, Status

SPACE = SearchSpace("one", (Hyperparameter("lr", "float", 0.1, low=0.0, high=1.0),))


class Growing(Benchmark):
    """Trains what it is asked for, and remembers how far that was; training fails behind epoch 4."""

    kind = "growing"

    def __init__(self) -> None:
        super().__init__(dataset="a", space=SPACE, metric=metric("loss"), epochs=9, fold=0, seed=0, source="a")
        self.trained: list[int] = []

    def _curve(self, config: Config) -> Curve:
        return self._curve_until(config, self.epochs)

    def _curve_until(self, config: Config, epoch: int) -> Curve:
        self.trained.append(epoch)
        ran = min(epoch, 4)
        loss = 1.0 / np.arange(1, ran + 1)
        status = Status.DIVERGED if epoch > 4 else Status.COMPLETED
        return Curve(loss, loss + 1.0, np.full(ran, 2.0), status, self.epochs, 0.5 if epoch > 4 else 0.0)


def test_no_question_about_an_epoch_asks_for_the_whole_curve() -> None:
    bench, config = Growing(), SPACE.default()
    assert bench.query(config, 2) == Observation(0.5, 4.0, Status.COMPLETED)
    assert bench.evaluate(config, 4) == Outcome(Observation(0.25, 8.0, Status.COMPLETED), 1.25, 4)
    batch = bench.query_batch([config, config], [1, 3])
    assert batch.value.tolist() == [1.0, 1 / 3]
    assert bench.trained == [2, 4, 1, 3]
    failed = bench.evaluate(config, 6)
    assert (failed.observation.status, failed.observation.cost_seconds) == (Status.DIVERGED, 8.5)
    assert np.isnan(failed.test)
    assert failed.epochs_run == 4
    bench.curve(config)
    assert bench.trained == [2, 4, 1, 3, 6, 9]
