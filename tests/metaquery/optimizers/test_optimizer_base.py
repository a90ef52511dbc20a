"""The contract that the base class keeps for every optimizer, and the registry."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from typing import Any

import pytest

import metaquery.optimizers as registry
from metaquery.errors import InvalidInput, MissingExtra, OptimizerError, UnknownName
from metaquery.optimizers import optimizer, optimizer_names
from metaquery.optimizers.base import Optimizer
from metaquery.space import Config
from metaquery.testing import TOY_SPACE
from metaquery.types import Observation, Status, Suggestion, Task

TASK = Task(TOY_SPACE, max_epochs=9, worst_loss=1.0)
GOOD = Observation(0.5, 1.0, Status.COMPLETED)


class Fixed(Optimizer):
    """Asks the default config `n` times, at `epoch`."""

    defaults = {"n": 2, "epoch": 9, "weight": 0.5}  # noqa: RUF012
    losses: list[float]

    def _bind(self, task: Task) -> None:
        self.losses = []

    def _ask(self, token: int) -> tuple[Config, int] | None:
        return None if token >= self.options["n"] else (self.task.space.default(), self.options["epoch"])

    def _tell(self, suggestion: Suggestion, observation: Observation, loss: float) -> None:
        self.losses.append(loss)


def bound(**options: Any) -> Fixed:
    result = Fixed(**options)
    result.bind(TASK)
    return result


def asked(one: Optimizer) -> Suggestion:
    suggestion = one.ask()
    assert suggestion is not None
    return suggestion


def test_equal_asks_are_two_suggestions() -> None:
    one = bound()
    first, second = asked(one), asked(one)
    assert first.config == second.config
    assert (first.token, second.token) == (0, 1)
    one.tell(second, GOOD)
    one.tell(first, Observation(float("nan"), 1.0, Status.DIVERGED))
    assert one.losses == [0.5, 1.0]  # a failure stands for the worst loss


def test_none_means_wait_while_something_runs_and_finished_otherwise() -> None:
    one = bound(n=1)
    suggestion = asked(one)
    assert one.ask() is None
    assert not one.finished
    one.tell(suggestion, GOOD)
    assert one.ask() is None
    assert one.finished
    with pytest.raises(OptimizerError, match="asked after it had finished"):
        one.ask()


def test_an_optimizer_is_bound_once_before_it_is_used() -> None:
    one = Fixed()
    for use in (one.ask, lambda: one.tell(Suggestion(TOY_SPACE.default(), 1, 0), GOOD)):
        with pytest.raises(OptimizerError, match="before it was bound"):
            use()
    one.bind(TASK)
    with pytest.raises(OptimizerError, match="already bound"):
        one.bind(TASK)


def test_each_suggestion_is_told_once() -> None:
    one = bound()
    suggestion = asked(one)
    with pytest.raises(OptimizerError, match="unknown suggestion 5"):
        one.tell(suggestion._replace(token=5), GOOD)
    with pytest.raises(OptimizerError, match="unknown suggestion 0"):
        one.tell(suggestion._replace(epoch=3), GOOD)
    one.tell(suggestion, GOOD)
    with pytest.raises(OptimizerError, match="twice about suggestion 0"):
        one.tell(suggestion, GOOD)
    assert one.losses == [0.5]


def test_an_epoch_that_does_not_exist_is_not_passed_on() -> None:
    with pytest.raises(OptimizerError, match="proposed epoch 10: expected 1 to 9"):
        bound(epoch=10).ask()


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least one"):
        Fixed().bind(replace(TASK, candidates=()))


def test_a_state_is_json_and_brings_back_what_was_running() -> None:
    one = bound(n=3)
    first, second = asked(one), asked(one)
    one.tell(second, Observation(float("nan"), 2.0, Status.DIVERGED))
    third = asked(one)
    assert one.ask() is None
    state = json.loads(json.dumps(one.state(), allow_nan=False))

    again = bound(n=3)
    assert again.load(state) == [first, third]
    assert again.losses == [1.0]
    again.tell(third, GOOD)
    assert again.losses == [1.0, 0.5]
    assert state == one.state()  # what was saved does not change with the one that saved it


def test_a_state_fits_one_optimizer_only() -> None:
    one = bound(n=3, seed=4)
    asked(one)
    state = one.state()
    with pytest.raises(InvalidInput, match="state is of an optimizer with seed 4, this one has 0"):
        bound(n=3).load(state)
    with pytest.raises(InvalidInput, match="state is of an optimizer with options"):
        bound(n=2, seed=4).load(state)
    with pytest.raises(OptimizerError, match="has already been used"):
        one.load(state)
    with pytest.raises(OptimizerError, match="before it was bound"):
        Fixed(n=3, seed=4).load(state)


def test_a_state_that_is_not_repeated_is_refused() -> None:
    state = bound(n=1).state()
    default = dict(TOY_SPACE.default())
    for events, found in (
        ([{"config": default, "epoch": 3}], "now it is"),
        ([{"waits": 1}], "now it is"),
        ([{"config": default, "epoch": 9}, {"config": default, "epoch": 9}], "now it is None"),
    ):
        with pytest.raises(OptimizerError, match=f"does not repeat the saved state: .* {found}"):
            bound(n=1).load({**state, "events": events})


def test_options_are_checked_and_stamped() -> None:
    assert Fixed(seed=4, weight=1).stamp == {
        "name": "test_optimizer_base",
        "seed": 4,
        "options": {"n": 2, "epoch": 9, "weight": 1.0},
        "versions": {},
    }
    with pytest.raises(UnknownName, match=r"unknown option of .* 'epochs': did you mean epoch"):
        Fixed(epochs=3)
    with pytest.raises(InvalidInput, match=r"option n of .* must be of type int, got '3'"):
        Fixed(n="3")
    for seed in (-1, 2**32, 1.0, True):
        with pytest.raises(InvalidInput, match="seed must be an integer"):
            Fixed(seed=seed)  # type: ignore[arg-type]


def test_the_registry_lists_the_modules_of_the_package() -> None:
    assert {"dehb", "random"} <= set(optimizer_names())
    assert "base" not in optimizer_names()
    assert not any(name.startswith("_") for name in optimizer_names())
    assert optimizer("random", seed=3).stamp == {"name": "random", "seed": 3, "options": {}, "versions": {}}
    with pytest.raises(UnknownName, match=r"unknown optimizer 'randon': did you mean random\?"):
        optimizer("randon")


def entry(name: str, value: str) -> metadata.EntryPoint:
    return metadata.EntryPoint(name, value, registry.ENTRY_POINTS)


@pytest.fixture
def entry_points(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(*points: metadata.EntryPoint) -> None:
        monkeypatch.setattr(metadata, "entry_points", lambda group: points if group == registry.ENTRY_POINTS else ())
        registry._homes.cache_clear()

    yield install
    monkeypatch.undo()
    registry._homes.cache_clear()


def test_entry_points_add_optimizers(entry_points: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "somebody", sys.modules[__name__])
    entry_points(entry("test_optimizer_base", "somebody:Fixed"))
    assert "test_optimizer_base" in optimizer_names()
    assert isinstance(optimizer("test_optimizer_base", n=1), Fixed)


def test_entry_points_that_do_not_fit_are_refused(entry_points: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "somebody", sys.modules[__name__])
    entry_points(entry("other", "somebody:Fixed"))
    with pytest.raises(InvalidInput, match="must be a subclass of Optimizer with name = 'other'"):
        optimizer("other")
    entry_points(entry("random", "somebody:Fixed"))
    with pytest.raises(InvalidInput, match="two optimizers are called 'random'"):
        optimizer_names()


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("dehb", "DEHB", "dehb"), ("optuna", "optuna", "optuna"), ("smac", "smac", "smac")]
    + [("syne_tune", "syne-tune", "syne-tune")],
)
def test_a_missing_package_is_named_with_what_to_install(
    name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(package: str) -> str:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(MissingExtra, match=rf"{package} is not installed: run  pip install 'medcurves\[{extra}\]'"):
        optimizer(name)


def test_listing_and_loading_optimizers_imports_none_of_their_packages() -> None:
    code = (
        "import sys; from metaquery.optimizers import optimizer_class, optimizer_names; "
        "[optimizer_class(name) for name in optimizer_names()]; "
        "heavy = {'dehb', 'distributed', 'ConfigSpace', 'pandas', 'sklearn', 'duckdb', 'pyarrow'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
