"""The baselines, against hand-computed brackets, promotions and orders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from metaquery.errors import InvalidInput
from metaquery.optimizers import optimizer
from metaquery.optimizers._rungs import rungs
from metaquery.optimizers.base import Optimizer
from metaquery.space import Config, Hyperparameter, SearchSpace
from metaquery.study import Stop, run
from metaquery.testing import TOY_SPACE, SyntheticBenchmark
from metaquery.types import Budget, Observation, Status, Suggestion, Task

LINE = SearchSpace(
    "line", (Hyperparameter("x", "integer", 0, low=0, high=999), Hyperparameter("y", "float", 0.5, low=0.0, high=1.0))
)
TASK = Task(LINE, max_epochs=27, worst_loss=1.0)


def bound(name: str, task: Task = TASK, seed: int = 0, **options: Any) -> Optimizer:
    one = optimizer(name, seed=seed, **options)
    one.bind(task)
    return one


def asked(one: Optimizer) -> Suggestion:
    suggestion = one.ask()
    assert suggestion is not None
    return suggestion


def tell(one: Optimizer, suggestion: Suggestion, loss: float) -> None:
    status = Status.COMPLETED if loss == loss else Status.FAILED  # noqa: PLR0124  (NaN is a failure)
    one.tell(suggestion, Observation(loss, 1.0, status))


def by_x(suggestion: Suggestion) -> float:
    return float(suggestion.config["x"]) / 1000


def drive(one: Optimizer, n: int, loss: Callable[[Suggestion], float] = by_x) -> list[Suggestion]:
    """`n` suggestions, each told before the next is asked."""
    suggestions = []
    for _ in range(n):
        suggestion = one.ask()
        if suggestion is None:
            break
        suggestions.append(suggestion)
        tell(one, suggestion, loss(suggestion))
    return suggestions


def configs_at(suggestions: list[Suggestion], epoch: int) -> list[Config]:
    return [s.config for s in suggestions if s.epoch == epoch]


def best(configs: list[Config], n: int) -> list[Config]:
    return sorted(configs, key=lambda config: (config["x"], config.config_id))[:n]


@pytest.mark.parametrize(
    ("max_epochs", "eta", "expected"),
    [(27, 3, [1, 3, 9, 27]), (50, 3, [2, 6, 17, 50]), (16, 2, [1, 2, 4, 8, 16]), (26, 3, [3, 9, 26]), (3, 3, [1, 3])],
)
def test_rungs_are_the_maximum_over_powers_of_eta(max_epochs: int, eta: int, expected: list[int]) -> None:
    assert rungs(max_epochs, eta, "it") == expected


@pytest.mark.parametrize("name", ["successive_halving", "hyperband", "asha", "bohb"])
def test_halving_needs_two_rungs(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"{name} with eta 3 needs a task of at least 3 epochs, got 2"):
        bound(name, Task(LINE, 2, 1.0))
    with pytest.raises(InvalidInput, match=f"eta of {name} must be at least 2, got 1"):
        bound(name, eta=1)


def test_successive_halving_goes_from_27_configs_to_one() -> None:
    done = drive(bound("successive_halving"), 80)

    first, second = done[:40], done[40:]
    assert [s.epoch for s in first] == [1] * 27 + [3] * 9 + [9] * 3 + [27]
    assert configs_at(first, 3) == best(configs_at(first, 1), 9)
    assert configs_at(first, 9) == best(configs_at(first, 1), 3)
    assert configs_at(first, 27) == best(configs_at(first, 1), 1)
    assert [s.epoch for s in second] == [s.epoch for s in first]
    assert not set(configs_at(first, 1)) & set(configs_at(second, 1))


def test_hyperband_has_the_brackets_of_the_paper() -> None:
    done = drive(bound("hyperband"), 40 + 17 + 8 + 4 + 27)
    sizes = []
    for length in (40, 17, 8, 4, 27):
        bracket, done = done[:length], done[length:]
        sizes.append(list(Counter(s.epoch for s in bracket).items()))
        lowest = configs_at(bracket, bracket[0].epoch)
        for epoch, n in sizes[-1][1:]:
            assert configs_at(bracket, epoch) == best(lowest, n)
    assert sizes == [
        [(1, 27), (3, 9), (9, 3), (27, 1)],
        [(3, 12), (9, 4), (27, 1)],
        [(9, 6), (27, 2)],
        [(27, 4)],
        [(1, 27)],
    ]


def test_hyperband_rounds_up_as_the_paper_does_where_eta_does_not_divide() -> None:
    done = drive(bound("hyperband", Task(LINE, 81, 1.0)), 200)
    assert Counter(s.epoch for s in done[:121]) == {1: 81, 3: 27, 9: 9, 27: 3, 81: 1}
    assert Counter(s.epoch for s in done[121 : 121 + 49]) == {3: 34, 9: 11, 27: 3, 81: 1}


def test_a_rung_promotes_when_all_of_it_was_told_and_others_begin_meanwhile() -> None:
    one = bound("successive_halving", Task(LINE, 9, 1.0))
    rung = [asked(one) for _ in range(9)]
    assert [s.epoch for s in rung] == [1] * 9
    for suggestion in rung[1:]:
        tell(one, suggestion, by_x(suggestion))
    other = asked(one)
    assert other.epoch == 1
    assert other.config not in {s.config for s in rung}
    tell(one, rung[0], by_x(rung[0]))
    promoted = [asked(one) for _ in range(3)]
    assert [(s.config, s.epoch) for s in promoted] == [(c, 3) for c in best([s.config for s in rung], 3)]
    assert asked(one).epoch == 1  # of the second bracket


def test_failures_are_never_promoted() -> None:
    nan = float("nan")
    one = bound("successive_halving", Task(LINE, 9, 1.0))
    rung = [asked(one) for _ in range(9)]
    for i, suggestion in enumerate(rung):
        tell(one, suggestion, 0.1 if i == 4 else nan)
    promoted, new = asked(one), asked(one)
    assert (promoted.config, promoted.epoch, new.epoch) == (rung[4].config, 3, 1)


def test_a_table_ends_with_every_config_trained() -> None:
    grid = tuple(TOY_SPACE.core().grid())
    for name in ("successive_halving", "hyperband", "asha", "bohb"):
        bench = SyntheticBenchmark(space=TOY_SPACE.core(), configs=grid, failing=0.0)
        trajectory = run(optimizer(name, seed=1), bench, Budget(seconds=1e9), workers=3)
        assert trajectory.stop is Stop.EXHAUSTED
        assert {s.config for s in trajectory.steps if s.epoch == 27} == set(grid)
        assert trajectory.epochs == 27 * len(grid)


def test_asha_promotes_as_soon_as_a_config_is_in_the_best_third() -> None:
    one = bound("asha")
    first, second, third = (asked(one) for _ in range(3))
    assert [s.epoch for s in (first, second, third)] == [1, 1, 1]
    tell(one, first, 0.5)
    tell(one, second, 0.3)
    fourth = asked(one)
    assert fourth.epoch == 1  # two results: a third of them is none
    tell(one, third, 0.4)
    promoted = asked(one)
    assert (promoted.config, promoted.epoch) == (second.config, 3)  # the best of three
    assert asked(one).epoch == 1  # once only
    tell(one, fourth, 0.1)
    late = asked(one)
    assert (late.config, late.epoch) == (fourth.config, 3)  # now the best of four, and one in three of four is one


def test_asha_prefers_the_highest_rung() -> None:
    one = bound("asha")
    lowest = [asked(one) for _ in range(9)]
    for i, suggestion in enumerate(lowest):
        tell(one, suggestion, i / 10)
    at_three = [asked(one) for _ in range(3)]
    assert [(s.config, s.epoch) for s in at_three] == [(s.config, 3) for s in lowest[:3]]
    for suggestion, loss in zip(at_three, (0.3, 0.1, 0.2), strict=True):
        tell(one, suggestion, loss)
    new = [asked(one) for _ in range(2)]
    assert [(s.config, s.epoch) for s in new] == [(at_three[1].config, 9), (new[1].config, 1)]
    assert new[1].config not in {s.config for s in lowest}


def test_asha_counts_failures_and_promotes_none() -> None:
    one = bound("asha")
    three = [asked(one) for _ in range(3)]
    for suggestion, loss in zip(three, (float("nan"), float("nan"), 0.9), strict=True):
        tell(one, suggestion, loss)
    assert asked(one).config == three[2].config
    more = [asked(one) for _ in range(3)]
    for suggestion in more:
        tell(one, suggestion, float("nan"))
    assert asked(one).epoch == 1


def test_asha_keeps_eight_workers_busy() -> None:
    trajectory = run(optimizer("asha", seed=0), SyntheticBenchmark(), Budget(seconds=600), workers=8)
    spent = sum(step.cost_seconds for step in trajectory.steps)
    assert spent > 0.95 * 8 * 600
    promoted = Counter(step.epoch for step in trajectory.steps)
    assert promoted[1] / 3.5 < promoted[3] <= promoted[1] / 3 + 8
    assert promoted[27] >= 1


def test_one_epoch_for_all_then_the_best_to_the_end() -> None:
    one = bound("one_epoch_topk", n=6, k=2)
    rung = [asked(one) for _ in range(6)]
    assert [s.epoch for s in rung] == [1] * 6
    assert one.ask() is None  # waits
    for suggestion, loss in zip(rung, (0.5, 0.1, float("nan"), 0.4, 0.2, 0.3), strict=True):
        tell(one, suggestion, loss)
    top = [asked(one), asked(one)]
    assert [(s.config, s.epoch) for s in top] == [(rung[1].config, 27), (rung[4].config, 27)]
    tell(one, top[0], 0.1)
    tell(one, top[1], float("nan"))
    assert one.ask() is None
    assert one.finished


def test_one_epoch_takes_all_of_a_small_table() -> None:
    grid = tuple(TOY_SPACE.core().grid())
    done = drive(bound("one_epoch_topk", Task(TOY_SPACE.core(), 27, 1.0, grid), k=3), 99, lambda s: 0.5)
    assert {s.config for s in done[: len(grid)]} == set(grid)
    assert [s.epoch for s in done] == [1] * len(grid) + [27] * 3
    for options in ({"n": 0}, {"k": 0}):
        with pytest.raises(InvalidInput, match="of one_epoch_topk must be at least 1, got 0"):
            bound("one_epoch_topk", **options)


def test_grid_is_the_whole_grid_in_order() -> None:
    grid = TOY_SPACE.grid()
    done = drive(bound("grid", Task(TOY_SPACE, 27, 1.0)), 99, lambda s: 0.5)
    assert [(s.config, s.epoch) for s in done] == [(config, 27) for config in grid]
    table = tuple(TOY_SPACE.core().grid()[::-1])
    done = drive(bound("grid", Task(TOY_SPACE.core(), 27, 1.0, table)), 99, lambda s: 0.5)
    assert [s.config for s in done] == list(table)


def test_default_is_one_config_for_each_backbone() -> None:
    done = drive(bound("default", Task(TOY_SPACE, 27, 1.0)), 99, lambda s: 0.5)
    assert [s.config for s in done] == [TOY_SPACE.complete({"backbone": name}) for name in ("small", "large")]
    assert {s.epoch for s in done} == {27}
    assert [s.config for s in drive(bound("default"), 9)] == [LINE.default()]


def test_default_on_a_table_is_the_nearest_of_the_same_backbone() -> None:
    space = TOY_SPACE.core()
    far, near = (space.complete({"backbone": "large", "optimizer": "sgd", "learning_rate": r}) for r in (1e-4, 1e-3))
    done = drive(bound("default", Task(space, 27, 1.0, (far, near))), 9, lambda s: 0.5)
    assert [s.config for s in done] == [near]  # no candidate has the backbone small


def test_no_config_is_drawn_twice_in_a_small_space_without_a_table() -> None:
    space = SearchSpace("small", (Hyperparameter("x", "integer", 0, low=0, high=9),))
    done = drive(bound("asha", Task(space, 3, 1.0)), 200)
    assert Counter(s.epoch for s in done) == {1: 10, 3: 10}
