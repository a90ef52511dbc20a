# mypy: ignore-errors
"""mf-prior-bench on a made-up table: `PYTHON mf_prior_bench.py TABLE.npz`."""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import make_dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from ConfigSpace import ConfigurationSpace, Float
from mfpbench import TabularBenchmark
from mfpbench.config import TabularConfig
from mfpbench.metric import Metric
from mfpbench.result import Result

NAMES = [f"x{i}" for i in range(7)]
METRICS = [f"m{i}" for i in range(7)] + ["seconds"]
MadeConfig = make_dataclass(
    "MadeConfig",
    [(name, float) for name in NAMES],
    bases=(TabularConfig,),
    frozen=True,
    eq=False,
    unsafe_hash=True,
)


class MadeBase(Result):
    metric_defs: ClassVar[Mapping[str, Metric]] = {
        name: Metric(minimize=True, bounds=(-10, np.inf)) for name in METRICS
    }
    default_value_metric: ClassVar[str] = "m0"
    default_value_metric_test: ClassVar[str] = "m1"
    default_cost_metric: ClassVar[str] = "seconds"


MadeResult = make_dataclass("MadeResult", [(name, Metric.Value) for name in METRICS], bases=(MadeBase,), frozen=True)


def main() -> None:
    made = np.load(sys.argv[1])
    points, values = made["points"], made["values"]
    n, epochs, _ = values.shape
    frame = pd.DataFrame(np.repeat(points, epochs, axis=0), columns=NAMES)
    frame["id"] = np.repeat([str(i) for i in range(n)], epochs)
    frame["epoch"] = np.tile(np.arange(1, epochs + 1), n)
    frame[METRICS] = values.reshape(n * epochs, -1).astype(float)
    space = ConfigurationSpace(name="made", seed=0)
    space.add([Float(name, (0.0, 1.0)) for name in NAMES])
    began = time.process_time()
    bench = TabularBenchmark(
        "made",
        frame,
        id_key="id",
        fidelity_key="epoch",
        result_type=MadeResult,
        config_type=MadeConfig,
        space=space,
    )
    load = time.process_time() - began
    rng = np.random.default_rng(0)
    ids = [str(i) for i in rng.integers(n, size=1000)]
    asked = [(bench.configs[i], int(epoch)) for i, epoch in zip(ids, rng.integers(1, epochs + 1, size=1000))]
    query = float("inf")
    for _ in range(3):
        began = time.process_time()
        for config, epoch in asked:
            bench.query(config, at=epoch)
        query = min(query, (time.process_time() - began) / len(asked))
    print(json.dumps({"query": query, "load": load}))


main()
