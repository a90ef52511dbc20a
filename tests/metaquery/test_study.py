"""Studies: charging, budgets, stopping, incumbents, and the same bytes from the same seed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaquery.benchmarks.base import Benchmark
from metaquery.errors import InvalidInput, OptimizerError
from metaquery.metrics import metric
from metaquery.optimizers import optimizer
from metaquery.optimizers.base import Optimizer
from metaquery.space import Config, Hyperparameter, SearchSpace
from metaquery.study import STALL_ASKS, run
from metaquery.testing import TOY_SPACE, SyntheticBenchmark
from metaquery.trajectory import Stop, Trajectory
from metaquery.types import Budget, Curve, Observation, Status, Suggestion

SPACE = SearchSpace("letters", (Hyperparameter("x", "categorical", "a", choices=("a", "b", "c", "d")),))
A, B, C, D = (SPACE.config({"x": letter}) for letter in "abcd")
LONG = Budget(seconds=1e6)


class Table(Benchmark):
    """Three epochs; `a` takes 1 s an epoch, `b` 2 s, `c` diverges after one of 1 s, `d` fails before its first."""

    kind = "tabular"

    def __init__(self, configs: tuple[Config, ...] | None = (A, B, C, D)) -> None:
        super().__init__(
            dataset="letters", space=SPACE, metric=metric("auc"), epochs=3, fold=0, seed=0, source="by hand"
        )
        self._configs = configs

    @property
    def configs(self) -> tuple[Config, ...] | None:
        return self._configs

    def _curve(self, config: Config) -> Curve:
        value, seconds, status, lost = {
            "a": ([0.5, 0.4, 0.3], [1.0, 1.0, 1.0], Status.COMPLETED, 0.0),
            "b": ([0.45, 0.35, 0.35], [2.0, 2.0, 2.0], Status.COMPLETED, 0.0),
            "c": ([0.2], [1.0], Status.DIVERGED, 0.5),
            "d": ([], [], Status.OUT_OF_MEMORY, 0.25),
        }[str(config["x"])]
        values = np.array(value, dtype=float)
        return Curve(values, values + 0.1, np.array(seconds, dtype=float), status, 3, lost)


class Scripted(Optimizer):
    """Asks what it was given; None where the script says so, and after its end."""

    def __init__(self, script: Sequence[tuple[Config, int] | None]) -> None:
        super().__init__()
        self.script = list(script)
        self.log: list[Any] = []

    def _ask(self, token: int) -> tuple[Config, int] | None:
        proposal = self.script.pop(0) if self.script else None
        self.log.append(("ask", proposal))
        return proposal

    def _tell(self, suggestion: Suggestion, observation: Observation, loss: float) -> None:
        self.log.append(("tell", suggestion.config, suggestion.epoch, observation, loss))


def study(script: Sequence[tuple[Config, int] | None], budget: Budget = LONG, **options: Any) -> Trajectory:
    return run(Scripted(script), options.pop("bench", Table()), budget, **options)


def times(trajectory: Trajectory) -> list[tuple[str, int, int, float, float]]:
    """Config, epoch, new epochs, start, finish of every step."""
    return [(str(s.config["x"]), s.epoch, s.new_epochs, s.start_seconds, s.finish_seconds) for s in trajectory.steps]


def test_resume_charges_new_epochs_only() -> None:
    trajectory = study([(A, 1), (A, 3), (A, 2), (B, 1)])

    assert times(trajectory) == [("a", 1, 1, 0, 1), ("a", 3, 2, 1, 3), ("a", 2, 0, 3, 3), ("b", 1, 1, 3, 5)]
    assert [s.value for s in trajectory.steps] == [0.5, 0.3, 0.4, 0.45]
    assert trajectory.epochs == 4
    assert trajectory.stop is Stop.FINISHED
    assert trajectory.clock_seconds == 5.0


def test_restart_charges_all_epochs_again() -> None:
    trajectory = study([(A, 1), (A, 3), (A, 2)], charging="restart")

    assert times(trajectory) == [("a", 1, 1, 0, 1), ("a", 3, 3, 1, 4), ("a", 2, 2, 4, 6)]


def test_resume_counts_what_had_finished_when_an_evaluation_starts() -> None:
    # Both start at 0, when nothing of `a` has finished: the second trains its first epoch once more.
    trajectory = study([(A, 1), (A, 3), (A, 3)], workers=2)

    assert times(trajectory) == [("a", 1, 1, 0, 1), ("a", 3, 3, 0, 3), ("a", 3, 2, 1, 3)]
    assert [s.worker for s in trajectory.steps] == [0, 1, 0]


def test_failures_cost_what_they_spent_and_are_told_as_the_worst_loss() -> None:
    scripted = Scripted([(C, 1), (C, 3), (C, 3), (D, 3)])
    trajectory = run(scripted, Table(), LONG)

    # c diverges in its second epoch after half a second; asked once more, there is nothing left to pay for
    assert times(trajectory) == [("c", 1, 1, 0, 1), ("c", 3, 0, 1, 1.5), ("c", 3, 0, 1.5, 1.5), ("d", 3, 0, 1.5, 1.75)]
    assert [s.status for s in trajectory.steps] == ["completed", "diverged", "diverged", "out_of_memory"]
    assert [math.isnan(s.value) and math.isnan(s.test) for s in trajectory.steps] == [False, True, True, True]
    assert [entry[4] for entry in scripted.log if entry[0] == "tell"] == [0.2, 1.0, 1.0, 1.0]
    assert [i.config for i in trajectory.incumbents] == [C]


def test_optimizers_see_validation_only() -> None:
    scripted = Scripted([(A, 3)])
    trajectory = run(scripted, Table(), LONG)

    observation = scripted.log[1][3]
    assert observation == Observation(0.3, 3.0, Status.COMPLETED)
    assert trajectory.steps[0].test == pytest.approx(0.4)


def test_incumbents_are_the_strict_improvements_at_any_epoch() -> None:
    trajectory = study([(A, 1), (B, 1), (B, 2), (B, 3), (A, 3)])

    found = [
        (i.order, i.clock_seconds, i.epochs, i.evaluations, i.config, i.epoch, i.value) for i in trajectory.incumbents
    ]
    assert found == [
        (0, 1, 1, 1, A, 1, 0.5),
        (1, 3, 2, 2, B, 1, 0.45),
        (2, 5, 3, 3, B, 2, 0.35),  # epoch 3 is level and changes nothing
        (4, 9, 6, 5, A, 3, 0.3),
    ]
    assert [i.test for i in trajectory.incumbents] == pytest.approx([0.6, 0.55, 0.45, 0.4])


def test_what_finishes_together_is_told_before_anything_is_asked() -> None:
    scripted = Scripted([(A, 2), (B, 1), (A, 3), (B, 2)])
    run(scripted, Table(), LONG, workers=2)

    assert [entry[0] for entry in scripted.log] == [
        "ask",
        "ask",
        "tell",
        "tell",
        "ask",
        "ask",
        "tell",
        "ask",
        "tell",
        "ask",
    ]


def test_a_pause_waits_for_what_is_running() -> None:
    trajectory = study([(B, 1), None, (A, 1)], workers=4)

    assert times(trajectory) == [("b", 1, 1, 0, 2), ("a", 1, 1, 2, 3)]


def test_an_evaluation_that_ends_with_the_budget_counts_and_later_ones_do_not() -> None:
    exact = study([(A, 1), (B, 1), (A, 3)], Budget(seconds=3))
    assert times(exact) == [("a", 1, 1, 0, 1), ("b", 1, 1, 1, 3)]
    assert (exact.stop, exact.clock_seconds) == (Stop.SECONDS, 3.0)

    short = study([(A, 1), (B, 1), (A, 3)], Budget(seconds=2.5))
    assert times(short) == [("a", 1, 1, 0, 1)]
    assert (short.stop, short.clock_seconds) == (Stop.SECONDS, 2.5)


@pytest.mark.parametrize(
    ("budget", "n", "stop"),
    [
        (Budget(epochs=4), 2, Stop.EPOCHS),
        (Budget(epochs=5), 2, Stop.EPOCHS),  # the third would take it to 6
        (Budget(epochs=6), 3, Stop.EPOCHS),
        (Budget(trials=2), 2, Stop.TRIALS),
        (Budget(seconds=5.5, epochs=6, trials=3), 2, Stop.SECONDS),
        (Budget(seconds=100, epochs=100, trials=1), 1, Stop.TRIALS),
    ],
)
def test_whichever_limit_comes_first_ends_it(budget: Budget, n: int, stop: Stop) -> None:
    trajectory = study([(A, 3), (B, 1), (B, 3), (C, 1)], budget)

    assert (len(trajectory.steps), trajectory.stop) == (n, stop)


def test_it_ends_when_every_config_has_been_run_to_its_end() -> None:
    trajectory = study([(A, 3), (C, 2), (D, 1), (B, 3), (A, 3)])

    assert trajectory.stop is Stop.EXHAUSTED
    assert len(trajectory.steps) == 4


def test_without_a_table_nothing_is_exhausted() -> None:
    assert study([(A, 3), (C, 2), (D, 1), (B, 3)], bench=Table(None)).stop is Stop.FINISHED


def test_it_ends_when_nothing_new_is_asked_for() -> None:
    trajectory = study([(A, 3), *[(A, 3)] * 2 * STALL_ASKS])

    assert trajectory.stop is Stop.STALLED
    assert len(trajectory.steps) == 1 + STALL_ASKS
    assert trajectory.clock_seconds == 3.0


def test_a_stalled_study_lets_what_is_running_finish() -> None:
    trajectory = study([(A, 1), (B, 1), *[(A, 1)] * STALL_ASKS], workers=2)

    assert trajectory.stop is Stop.STALLED
    assert ("b", 1, 1, 0, 2) in times(trajectory)


def test_a_new_evaluation_starts_the_count_of_idle_asks_anew() -> None:
    idle = [(A, 1)] * (STALL_ASKS - 1)
    trajectory = study([(A, 1), *idle, (B, 1), *idle])

    assert trajectory.stop is Stop.FINISHED


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InvalidInput, match="charging must be resume or restart, got 'free'"):
        study([], charging="free")
    with pytest.raises(InvalidInput, match="workers must be a positive integer, got 0"):
        study([], workers=0)
    used = Scripted([(A, 1)])
    run(used, Table(), LONG)
    with pytest.raises(OptimizerError, match="already bound"):
        run(used, Table(), LONG)


def test_the_stamp_says_what_the_numbers_depend_on() -> None:
    bench = SyntheticBenchmark()
    trajectory = run(optimizer("random", seed=7), bench, Budget(trials=3), workers=2, charging="restart")

    document = trajectory.to_json()
    assert document["benchmark"] == bench.stamp
    assert document["optimizer"] == {"name": "random", "seed": 7, "options": {}, "versions": {}}
    assert document["budget"] == {"seconds": None, "epochs": None, "trials": 3}
    assert (document["workers"], document["charging"], document["clock"]) == (2, "restart", "simulated")
    assert set(document["versions"]) == {"medcurves", "numpy", "python"}
    assert set(document["incumbent_configs"]) == {i.config.config_id for i in trajectory.incumbents}


def test_tables_hold_every_step() -> None:
    trajectory = study([(A, 1), (C, 3)])

    rows = trajectory.to_arrow().to_pylist()
    assert [row["config_id"] for row in rows] == [A.config_id, C.config_id]
    assert [row["status"] for row in rows] == ["completed", "diverged"]
    assert rows[0]["finish_seconds"] == 1.0
    assert math.isnan(rows[1]["value"])
    assert trajectory.incumbents_to_arrow()["value"].to_pylist() == [0.5]
    assert study([]).to_arrow().num_rows == 0


@pytest.mark.parametrize("name", ["random", "dehb"])
def test_same_seed_same_bytes(name: str, tmp_path: Path) -> None:
    for directory in ("first", "second", "other"):
        bench = SyntheticBenchmark(space=TOY_SPACE.core(), configs=tuple(TOY_SPACE.core().grid()))
        found = run(optimizer(name, seed=3 if directory == "other" else 2), bench, Budget(seconds=200), workers=3)
        found.write(tmp_path / directory)

    files = {d: [f.read_bytes() for f in sorted((tmp_path / d).iterdir())] for d in ("first", "second", "other")}
    assert files["first"] == files["second"]
    assert files["first"] != files["other"]
    assert [f.name for f in sorted((tmp_path / "first").iterdir())] == [
        "evaluations.parquet",
        "incumbents.parquet",
        "trajectory.json",
    ]
    json.loads((tmp_path / "first" / "trajectory.json").read_text())


def test_writing_never_destroys_other_files(tmp_path: Path) -> None:
    trajectory = study([(A, 1)])
    trajectory.write(tmp_path / "run")
    trajectory.write(tmp_path / "run")  # its own earlier output is replaced
    (tmp_path / "run" / "notes.txt").write_text("mine")

    with pytest.raises(InvalidInput, match=r"already holds something else \(notes.txt\)"):
        trajectory.write(tmp_path / "run")

    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from([A, B, C, D]), st.integers(1, 3)), max_size=25),
    st.integers(1, 4),
    st.sampled_from(["resume", "restart"]),
    st.floats(0.1, 40),
)
def test_invariants(script: list[tuple[Config, int]], workers: int, charging: str, seconds: float) -> None:
    trajectory = study(script, Budget(seconds=seconds), workers=workers, charging=charging)
    steps = trajectory.steps

    assert all(s.finish_seconds <= seconds and s.finish_seconds == s.start_seconds + s.cost_seconds for s in steps)
    assert [s.finish_seconds for s in steps] == sorted(s.finish_seconds for s in steps)
    values = [i.value for i in trajectory.incumbents]
    assert values == sorted(set(values), reverse=True)
    finite = [s.value for s in steps if not math.isnan(s.value)]
    assert values[-1:] == ([min(finite)] if finite else [])
    for config in (A, B, C, D):
        own = [s for s in steps if s.config == config]
        if workers == 1 and charging == "resume" and own:
            deepest = max(own, key=lambda s: s.epoch)
            expected = Table().query(config, deepest.epoch).cost_seconds
            assert math.isclose(sum(s.cost_seconds for s in own), expected)
        if charging == "restart":
            assert all(s.cost_seconds == Table().query(config, s.epoch).cost_seconds for s in own)
