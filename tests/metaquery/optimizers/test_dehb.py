"""DEHB behind its boundary: the package's proposals, on our space, without its side effects."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from metaquery.errors import InvalidInput, OptimizerError
from metaquery.optimizers import dehb, optimizer
from metaquery.optimizers._configspace import from_configspace, to_configspace
from metaquery.space import Condition, Hyperparameter, SearchSpace
from metaquery.study import run
from metaquery.testing import TOY_SPACE, SyntheticBenchmark
from metaquery.types import Budget, Observation, Status, Suggestion, Task

TASK = Task(TOY_SPACE, max_epochs=27, worst_loss=1.0)


def bound(seed: int = 0, task: Task = TASK, **options: Any) -> Any:
    one = optimizer("dehb", seed=seed, **options)
    one.bind(task)
    return one


def loss(suggestion: Suggestion) -> float:
    return int(suggestion.config.config_id[:4], 16) / 0xFFFF / suggestion.epoch


def asks(one: Any, n: int, running: int = 1) -> list[tuple[dict[str, Any], int]]:
    """What `one` proposes when up to `running` suggestions are out at once and the oldest is told first."""
    out: list[Suggestion] = []
    found = []
    for _ in range(n):
        suggestion = one.ask()
        out.append(suggestion)
        found.append((dict(suggestion.config), suggestion.epoch))
        if len(out) == running:
            done = out.pop(0)
            one.tell(done, Observation(loss(done), float(done.epoch), Status.COMPLETED))
    return found


@pytest.mark.parametrize(
    ("max_epochs", "eta", "expected"),
    [
        (27, 3, [1, 3, 9, 27]),
        (81, 3, [1, 3, 9, 27, 81]),
        (9, 3, [1, 3, 9]),
        (50, 3, [2, 6, 17, 50]),
        (16, 2, [1, 2, 4, 8, 16]),
    ],
)
def test_fidelities_are_whole_epochs(max_epochs: int, eta: int, expected: list[int]) -> None:
    one = bound(task=Task(TOY_SPACE, max_epochs, 1.0), eta=eta)
    assert list(one._epochs.values()) == expected
    assert {epoch for _, epoch in asks(one, 200)} == set(expected)


def test_unexpected_fidelities_are_refused() -> None:
    assert dehb._by_fidelity([1.0, 3.0, 9.0, 27.0], [1, 3, 9, 27]) == {1.0: 1, 3.0: 3, 9.0: 9, 27.0: 27}
    with pytest.raises(OptimizerError, match=r"dehb chose the epochs \[3, 9, 27\]: expected \[1, 3, 9, 27\]"):
        dehb._by_fidelity([3.0, 9.0, 27.0], [1, 3, 9, 27])


REFERENCE = """
import json, sys, warnings, zlib
warnings.simplefilter("ignore")
import ConfigSpace as CS
from dehb import DEHB
cs = CS.ConfigurationSpace()
cs.add(
    CS.CategoricalHyperparameter("kind", ["a", "b"], default_value="a"),
    CS.UniformFloatHyperparameter("rate", 1e-4, 1.0, log=True, default_value=0.1),
    CS.OrdinalHyperparameter("size", [8, 16, 32], default_value=16),
    CS.UniformIntegerHyperparameter("n", 1, 9, default_value=4),
)
cs.add(CS.InCondition(cs["rate"], cs["kind"], ["a"]))
quiet = dict(save_freq=None, output_path=sys.argv[1], log_level="ERROR")
one = DEHB(cs=cs, min_fidelity=1, max_fidelity=27, eta=3, n_workers=1, seed=5, **quiet)
found = []
highest = {}
for i in range(200):
    job = one.ask()
    values = {name: job["config"][name] for name in sorted(job["config"])}
    text = json.dumps({name: value.item() if hasattr(value, "item") else value for name, value in values.items()})
    if job["fidelity"] > highest.get(text, 0):
        found.append([json.loads(text), job["fidelity"]])
        highest[text] = job["fidelity"]
    one.tell(job, {"fitness": zlib.crc32(text.encode()) / 2**32, "cost": 1.0})
print(json.dumps(found))
"""


def test_its_proposals_are_those_of_the_package_itself(tmp_path: Path) -> None:
    """The same as a plain loop over the package, but for what that asks again although the outcome is known."""
    space = SearchSpace(
        "same",
        (
            Hyperparameter("kind", "categorical", "a", choices=("a", "b")),
            Hyperparameter("rate", "float", 0.1, low=1e-4, high=1.0, log=True, condition=Condition("kind", ("a",))),
            Hyperparameter("size", "ordinal", 16, choices=(8, 16, 32)),
            Hyperparameter("n", "integer", 4, low=1, high=9),
            Hyperparameter("constant", "categorical", "only", choices=("only",)),
        ),
    )
    done = subprocess.run([sys.executable, "-c", REFERENCE, str(tmp_path)], capture_output=True, text=True, check=True)
    expected = json.loads(done.stdout)

    one = bound(5, Task(space, 27, 1.0))
    assert 100 < len(expected) < 200
    for config, epoch in expected:
        suggestion = one.ask()
        found = dict(suggestion.config)
        assert found.pop("constant") == "only"
        assert found == config
        assert suggestion.epoch == round(epoch)
        value = zlib.crc32(json.dumps(config).encode()) / 2**32
        one.tell(suggestion, Observation(value, 1.0, Status.COMPLETED))


@pytest.mark.parametrize("running", [1, 4])
def test_dropping_finished_brackets_changes_no_proposal(running: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dropped = bound(seed=2)
    with_drop = asks(dropped, 500, running)
    monkeypatch.setattr(dehb._dehb_class(), "_clean_inactive_brackets", lambda self: None)
    kept = bound(seed=2)
    without_drop = asks(kept, 500, running)

    assert with_drop == without_drop
    assert len(dropped._dehb.active_brackets) <= 2 + running
    assert len(kept._dehb.active_brackets) > 10


def test_failures_are_told_as_the_worst_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    one = bound(task=Task(TOY_SPACE, 27, worst_loss=16.0))
    told: list[float] = []
    monkeypatch.setattr(one._dehb, "tell", lambda job, result: told.append(result["fitness"]))
    for value in (0.25, math.nan, math.inf):
        one.tell(one.ask(), Observation(value, 1.0, Status.FAILED))
    assert told == [0.25, 16.0, 16.0]


def test_nothing_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    asks(bound(), 80)
    assert list(tmp_path.glob("*/*")) == []


def test_the_programs_own_logging_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    from loguru import logger

    lines: list[str] = []
    handler = logger.add(lines.append, format="{message}")
    try:
        before = dict(logger._core.handlers)  # type: ignore[attr-defined]
        asks(bound(), 80)
        assert logger._core.handlers == before  # type: ignore[attr-defined]
        logger.info("still here")
        assert lines == ["still here\n"]
    finally:
        logger.remove(handler)
    assert capsys.readouterr().out == ""


def test_it_needs_something_to_vary_and_enough_epochs() -> None:
    single = SearchSpace("single", (Hyperparameter("x", "categorical", "a", choices=("a",)),))
    with pytest.raises(InvalidInput, match="'single' has a single config"):
        bound(task=Task(single, 27, 1.0))
    with pytest.raises(InvalidInput, match="needs a task of at least 3 epochs, got 2"):
        bound(task=Task(TOY_SPACE, 2, 1.0))
    with pytest.raises(InvalidInput, match="eta of dehb must be at least 2, got 1"):
        bound(eta=1)


def test_it_finds_better_configs_than_it_starts_with() -> None:
    bench = SyntheticBenchmark(failing=0.0)
    values = [s.value for s in run(bound_free(), bench, Budget(trials=400)).steps if s.epoch == 27]
    assert min(values) < values[0]


def bound_free() -> Any:
    return optimizer("dehb", seed=1)


CONSTANT_PARENTS = SearchSpace(
    "constants",
    (
        Hyperparameter("on", "categorical", "yes", choices=("yes",)),
        Hyperparameter("always", "float", 0.5, low=0.0, high=1.0, condition=Condition("on", ("yes",))),
        Hyperparameter("kind", "categorical", "a", choices=("a", "b", "c")),
        Hyperparameter("fixed", "ordinal", 1, choices=(1,), condition=Condition("kind", ("a", "b"))),
        Hyperparameter("deep", "integer", 2, low=1, high=8, log=True, condition=Condition("fixed", (1,))),
        Hyperparameter("level", "integer", 0, low=0, high=3),
        Hyperparameter("late", "ordinal", "lo", choices=("lo", "hi"), condition=Condition("level", (2, 3))),
    ),
)


def test_conditions_on_constants_are_resolved() -> None:
    target = to_configspace(CONSTANT_PARENTS, seed=0)

    assert set(target) == {"always", "kind", "deep", "level", "late"}
    assert {child: {p.name for p in target.parents_of[child]} for child in target} == {
        "always": set(),
        "kind": set(),
        "deep": {"kind"},
        "level": set(),
        "late": {"level"},
    }
    assert target["deep"].log
    seen = set()
    for configuration in target.sample_configuration(200):
        config = from_configspace(CONSTANT_PARENTS, configuration)
        assert CONSTANT_PARENTS.config(config) == config
        assert set(config) - {"on", "fixed"} == set(configuration)
        seen.add((config["kind"], "deep" in config, config["level"], "late" in config))
    assert len(seen) == 3 * 4


def test_what_can_never_be_active_is_left_out() -> None:
    space = CONSTANT_PARENTS.restrict("kind", ["c"])
    assert set(to_configspace(space, seed=0)) == {"always", "level", "late"}
