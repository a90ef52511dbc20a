"""A benchmark as a blackbox of Syne Tune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaquery.errors import MissingExtra
from metaquery.optimizers.syne_tune import from_syne_tune, to_syne_tune
from metaquery.space import Config, Distances

if TYPE_CHECKING:
    from metaquery.benchmarks.base import Benchmark

FIDELITY = "epoch"
OBJECTIVES = ("metric_loss", "metric_elapsed_time")  # the validation loss, and the seconds since the first epoch began


def blackbox(bench: Benchmark) -> Any:
    """A `syne_tune.blackbox_repository.Blackbox`, for `UserBlackboxBackend(blackbox, "metric_elapsed_time")`.

    Its fidelity is `epoch`, its objectives are OBJECTIVES. Where a trial failed, the loss is the metric's worst from
    then on. Inactive hyperparameters are ignored, and on a table the nearest config stands for one that is not in it.
    """
    try:
        from syne_tune import config_space
        from syne_tune.blackbox_repository.blackbox import Blackbox
    except ImportError:
        raise MissingExtra.of("syne-tune", "syne-tune") from None

    table = bench.configs
    distances = None if table is None else Distances(bench.space, table)
    epochs = np.arange(1, bench.epochs + 1)

    def nearest(configuration: dict[str, Any]) -> Config:
        config = from_syne_tune(bench.space, configuration)
        return config if table is None or distances is None else table[int(distances(config).argmin())]

    class BenchmarkBlackbox(Blackbox):
        """All epochs of a config at once, or one of them."""

        def _objective_function(
            self,
            configuration: dict[str, Any],
            fidelity: dict[str, Any] | None = None,
            seed: int | None = None,  # noqa: ARG002
        ) -> dict[str, float] | NDArray[np.float64]:
            config = nearest(configuration)
            if fidelity is None:
                return np.array([_at(bench, config, epoch) for epoch in epochs.tolist()])
            return dict(zip(OBJECTIVES, _at(bench, config, int(fidelity[FIDELITY])), strict=True))

        @property
        def fidelity_values(self) -> NDArray[np.int64]:
            """1 to the last epoch."""
            return epochs

    return BenchmarkBlackbox(
        configuration_space=to_syne_tune(bench.space),
        fidelity_space={FIDELITY: config_space.randint(1, bench.epochs)},
        objectives_names=list(OBJECTIVES),
    )


def _at(bench: Benchmark, config: Config, epoch: int) -> tuple[float, float]:
    observation = bench.query(config, epoch)
    return observation.value if observation.ok else bench.metric.worst_loss, observation.cost_seconds
