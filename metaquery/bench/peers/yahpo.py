# mypy: ignore-errors
"""YAHPO Gym on a made-up scenario: `PYTHON yahpo.py QUERIES`; needs yahpo_gym and onnx.

Its own surrogates come from the network, so this one has random weights, which cost the same: the scenario lcbench
(nine hyperparameters, none conditional, 35 instances) and a network of the size published for it (ResNet, width 128,
three blocks of hidden width 430), with a transformation of each number and of each target.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, HIDDEN, BLOCKS, EMBEDDING = 128, 430, 3, 12
TASK, TASKS = "OpenML_task_id", [str(task) for task in range(35)]
LOGARITHMIC = {"batch_size", "learning_rate", "momentum", "num_layers", "max_units"}
RANGES = {
    "batch_size": (16, 512),
    "epoch": (1, 52),
    "learning_rate": (1e-4, 1e-1),
    "max_dropout": (0.0, 1.0),
    "max_units": (64.0, 1024.0),
    "momentum": (0.1, 0.99),
    "num_layers": (1, 5),
    "weight_decay": (1e-5, 1e-1),
}


class Graph:
    """Nodes and weights of a network that is being put together; a call adds a node and names its output."""

    def __init__(self) -> None:
        self.nodes, self.weights, self.rng = [], [], np.random.default_rng(0)

    def __call__(self, kind: str, *inputs: str, outputs: int = 1, **attributes) -> str | list[str]:
        names = [f"{kind}{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names if outputs > 1 else names[0]

    def constant(self, value) -> str:
        name = f"weight{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def linear(self, x: str, fan_in: int, fan_out: int) -> str:
        weight = self.rng.normal(0, fan_in**-0.5, (fan_out, fan_in)).astype(np.float32)
        return self("Gemm", x, self.constant(weight), self.constant(np.zeros(fan_out, np.float32)), transB=1)

    def normalised(self, x: str) -> str:
        scale = [self.constant(np.full(WIDTH, value, np.float32)) for value in (1, 0, 0, 1)]
        return self("BatchNormalization", x, *scale)

    def column(self, x: str, at: int) -> str:
        return self("Gather", x, self.constant(np.int64(at)), axis=1)


def network(numbers: list[str], targets: int) -> bytes:
    """The network with the inputs x_cat (n, 1) and x_cont (n, numbers), as YAHPO exports it."""
    g = Graph()
    table = g.constant(g.rng.normal(size=(len(TASKS) + 1, EMBEDDING)).astype(np.float32))
    parts = [g("Gather", table, g.column("x_cat", 0))]
    for at, name in enumerate(numbers):
        x = g.column("x_cont", at)
        low, high = RANGES[name]
        if name in LOGARITHMIC:
            x, low, high = g("Log", x), np.log(low), np.log(high)
        x = g("Div", g("Sub", x, g.constant(np.float32(low))), g.constant(np.float32(high - low)))
        parts.append(g("Unsqueeze", x, axes=[1]))
    x = g.linear(g("Concat", *parts, axis=1), EMBEDDING + len(numbers), WIDTH)
    for _ in range(BLOCKS):
        a, b = g("Split", g.linear(g.normalised(x), WIDTH, 2 * HIDDEN), outputs=2, axis=1)
        x = g("Add", x, g.linear(g("Mul", a, g("Relu", b)), HIDDEN, WIDTH))
    y = g("Sigmoid", g.linear(g("Relu", g.normalised(x)), WIDTH, targets))
    ends = []
    for at in range(targets):
        scaled = g("Mul", g.column(y, at), g.constant(np.float32(2)))
        ends.append(g("Unsqueeze", g("Exp", g("Add", scaled, g.constant(np.float32(1)))), axes=[1]))
    g.nodes.append(helper.make_node("Concat", ends, ["output"], axis=1))
    inputs = [
        helper.make_tensor_value_info("x_cat", TensorProto.INT32, ["n", 1]),
        helper.make_tensor_value_info("x_cont", TensorProto.FLOAT, ["n", len(numbers)]),
    ]
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", targets])
    graph = helper.make_graph(g.nodes, "lcbench", inputs, [output], g.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def scenario(directory: Path) -> None:
    """Write the files of the scenario where YAHPO looks for them."""
    from ConfigSpace import CategoricalHyperparameter, ConfigurationSpace
    from ConfigSpace.hyperparameters import UniformFloatHyperparameter, UniformIntegerHyperparameter
    from ConfigSpace.read_and_write import json as written
    from yahpo_gym.benchmarks import lcbench
    from yahpo_gym.configuration import cfg

    assert lcbench
    space = ConfigurationSpace()
    space.add_hyperparameter(CategoricalHyperparameter(TASK, TASKS))
    for name, (low, high) in RANGES.items():
        kind = UniformIntegerHyperparameter if isinstance(low, int) else UniformFloatHyperparameter
        space.add_hyperparameter(kind(name, low, high, log=name in {"batch_size", "learning_rate", "max_units"}))
    (directory / "config_space.json").write_text(written.write(space))
    (directory / "encoding.json").write_text(json.dumps({TASK: {"#na#": 0} | {t: i + 1 for i, t in enumerate(TASKS)}}))
    known = cfg("lcbench")
    (directory / "model.onnx").write_bytes(network(known.cont_names, len(known.y_names)))


def least(call, n: int) -> float:
    """The least processor seconds of three runs of `call`, a query."""
    times = []
    for _ in range(3):
        began = time.process_time()
        call()
        times.append((time.process_time() - began) / n)
    return min(times)


def main() -> None:
    queries = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as made:
        os.environ["YAHPO_LOCAL_CONFIG"] = f"{made}/settings"
        Path(made, "settings").write_text(f"data_path: {made}\n")
        directory = Path(made, "lcbench")
        directory.mkdir()
        scenario(directory)
        from yahpo_gym.benchmark_set import BenchmarkSet

        with contextlib.redirect_stdout(io.StringIO()):  # what to cite
            bench = BenchmarkSet("lcbench", instance=TASKS[0], multithread=False)
        bench.config_space.seed(0)
        asked = [config.get_dictionary() for config in bench.config_space.sample_configuration(queries)]
        found = {
            "alone": least(lambda: [bench.objective_function(config) for config in asked], queries),
            "batch": least(lambda: bench.objective_function(asked), queries),
        }
    print(json.dumps(found))


main()
