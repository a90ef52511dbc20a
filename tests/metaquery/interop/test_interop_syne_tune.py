"""A benchmark as a blackbox of Syne Tune, simulated by its own tuner."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from metaquery.errors import UnknownName
from metaquery.interop.syne_tune import OBJECTIVES, blackbox
from metaquery.optimizers import optimizer
from metaquery.optimizers.syne_tune import from_syne_tune
from metaquery.study import run
from metaquery.testing import TOY_SPACE, SyntheticBenchmark
from metaquery.types import Budget

pytest.importorskip("syne_tune", reason="syne-tune is not installed")


def test_all_epochs_and_single_ones_are_those_of_the_benchmark() -> None:
    bench = SyntheticBenchmark(failing=0.5)
    box = blackbox(bench)
    rng = np.random.RandomState(0)
    failed = 0
    for _ in range(20):
        configuration = {
            name: domain.sample(random_state=rng) if hasattr(domain, "sample") else domain
            for name, domain in box.configuration_space.items()
        }
        config = from_syne_tune(TOY_SPACE, configuration)
        table = box(configuration)
        assert table.shape == (27, 2)
        for epoch in (1, 27):
            observation = bench.query(config, epoch)
            loss = observation.value if observation.ok else bench.metric.worst_loss
            assert table[epoch - 1].tolist() == [loss, observation.cost_seconds]
            assert box(configuration, fidelity=epoch) == dict(zip(OBJECTIVES, table[epoch - 1], strict=True))
            failed += not observation.ok
    assert failed > 0
    assert box.fidelity_values.tolist() == list(range(1, 28))


def test_a_tuner_of_syne_tune_runs_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNETUNE_FOLDER", str(tmp_path))
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend.simulator_backend.simulator_callback import SimulatorCallback
    from syne_tune.blackbox_repository.simulated_tabular_backend import UserBlackboxBackend
    from syne_tune.optimizer.baselines import ASHA

    box = blackbox(SyntheticBenchmark(failing=0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, about pandas
        tuner = Tuner(
            trial_backend=UserBlackboxBackend(box, elapsed_time_attr=OBJECTIVES[1]),
            scheduler=ASHA(box.configuration_space, metric=OBJECTIVES[0], time_attr="epoch", max_t=27, random_seed=0),
            stop_criterion=StoppingCriterion(max_num_trials_started=20),
            n_workers=4,
            sleep_time=0,
            callbacks=[SimulatorCallback()],
            print_update_interval=1e9,
            trial_backend_path=str(tmp_path),
            save_tuner=False,
        )
        tuner.run()
    assert (
        len(tuner.trials_scheduled)
        if hasattr(tuner, "trials_scheduled")
        else tuner.tuning_status.num_trials_started >= 20
    )
    assert tuner.tuning_status.overall_metric_statistics.min_metrics[OBJECTIVES[0]] < 0.4


@pytest.mark.parametrize("scheduler", ["RandomSearch", "TPE", "BOHB", "REA"])
def test_schedulers_by_name(scheduler: str) -> None:
    done = run(optimizer("syne_tune", seed=1, scheduler=scheduler), SyntheticBenchmark(), Budget(trials=15), workers=2)
    epochs = {step.epoch for step in done.steps}
    assert epochs == {27} if scheduler != "BOHB" else 1 in epochs
    with pytest.raises(UnknownName, match="unknown scheduler of Syne Tune 'ASHAA': did you mean ASHA"):
        run(optimizer("syne_tune", scheduler="ASHAA"), SyntheticBenchmark(), Budget(trials=1))
