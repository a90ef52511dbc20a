# mypy: ignore-errors
"""Syne Tune on a made-up table: `PYTHON syne_tune.py TABLE.npz TRIALS WORKERS`."""

import json
import logging
import sys
import time

sys.path.pop(0)  # this file has the package's name

import numpy as np
import pandas as pd
from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend.simulator_backend.simulator_callback import SimulatorCallback
from syne_tune.blackbox_repository.blackbox_tabular import BlackboxTabular
from syne_tune.blackbox_repository.simulated_tabular_backend import UserBlackboxBackend
from syne_tune.config_space import uniform
from syne_tune.optimizer.baselines import ASHA

logging.disable(logging.CRITICAL)


def main() -> None:
    made = np.load(sys.argv[1])
    trials, workers = int(sys.argv[2]), int(sys.argv[3])
    points, values = made["points"], made["values"]
    names = [f"x{i}" for i in range(points.shape[1])]
    table = BlackboxTabular(
        hyperparameters=pd.DataFrame(points, columns=names),
        configuration_space={name: uniform(0, 1) for name in names},
        fidelity_space={"epoch": uniform(1, values.shape[1])},
        objectives_evaluations=values[:, None],
        fidelity_values=np.arange(1, values.shape[1] + 1),
        objectives_names=[f"m{i}" for i in range(values.shape[2] - 1)] + ["elapsed_time"],
    )
    rng = np.random.default_rng(0)
    asked = [
        ({name: float(x) for name, x in zip(names, points[row])}, {"epoch": int(epoch)})
        for row, epoch in zip(rng.integers(len(points), size=2000), rng.integers(1, values.shape[1], size=2000))
    ]
    query = float("inf")
    for _ in range(3):
        began = time.process_time()
        for config, fidelity in asked:
            table.objective_function(config, fidelity, seed=0)
        query = min(query, (time.process_time() - began) / len(asked))
    first = [
        {name: float(x) for name, x in zip(names, point)} for point in points[: trials + 100]
    ]  # some more are asked than start
    asha = min(simulate(table, first, values.shape[1], trials, workers) for _ in range(2)) if trials else None
    print(json.dumps({"query": query, "asha": asha}))


def simulate(table: BlackboxTabular, configs: list, epochs: int, trials: int, workers: int) -> float:
    backend = UserBlackboxBackend(blackbox=table, elapsed_time_attr="elapsed_time", max_resource_attr="epochs")
    scheduler = ASHA(
        {**{name: uniform(0, 1) for name in configs[0]}, "epochs": epochs},
        metric="m0",
        do_minimize=True,
        time_attr="epoch",
        max_t=epochs,
        grace_period=1,
        reduction_factor=3,
        random_seed=0,
        points_to_evaluate=[{**config, "epochs": epochs} for config in configs],
    )
    tuner = Tuner(
        trial_backend=backend,
        scheduler=scheduler,
        stop_criterion=StoppingCriterion(max_num_trials_started=trials),
        n_workers=workers,
        sleep_time=0,
        callbacks=[SimulatorCallback()],
        save_tuner=False,
        print_update_interval=1e9,
    )
    began = time.process_time()
    tuner.run()
    return time.process_time() - began


main()
