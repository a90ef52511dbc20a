"""The optimizers that learn from other datasets, against hand-computed portfolios, distances and orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from metaquery.errors import InvalidInput, LeakageError, OptimizerError
from metaquery.optimizers import optimizer
from metaquery.optimizers._transfer import Transfer
from metaquery.optimizers.history import DatasetHistory, History
from metaquery.optimizers.nearest_dataset import distances
from metaquery.optimizers.portfolio import greedy
from metaquery.space import Config, Hyperparameter, SearchSpace
from metaquery.testing import toy_history
from metaquery.types import Observation, Status, Task

SPACE = SearchSpace(
    "learn",
    (
        Hyperparameter("backbone", "categorical", "a", choices=("a", "b")),
        Hyperparameter("x", "ordinal", 0, choices=(0, 1, 2, 3), grid=(0, 1, 2, 3)),
    ),
)
A = [SPACE.complete({"x": x}) for x in range(4)]
TASK = Task(SPACE, max_epochs=2, worst_loss=1.0, candidates=tuple(A))
NAN = float("nan")


def trained(
    name: str, last: Sequence[float], configs: Sequence[Config] = A, metafeatures: Mapping[str, float] | None = None
) -> DatasetHistory:
    """A dataset whose configs have the losses `last` at epoch 2."""
    losses = np.array([[0.9, loss] for loss in last])
    return DatasetHistory(name, name, metafeatures or {"n": 1.0}, tuple(configs), losses, np.ones_like(losses))


def asked_by(name: str, history: History, task: Task = TASK, **options: Any) -> list[Config]:
    one = optimizer(name, history=history, **options)
    one.bind(task)
    found = []
    while (suggestion := one.ask()) is not None:
        assert suggestion.epoch == task.max_epochs
        found.append(suggestion.config)
        one.tell(suggestion, Observation(0.5, 1.0, Status.COMPLETED))
    return found


def test_greedy_picks_what_complements_the_portfolio() -> None:
    losses = np.array([[0.0, 0.9], [0.3, 0.3], [0.9, 0.0], [0.2, 0.8]])
    # Means 0.45, 0.3, 0.45, 0.5: row 1 first. With it, rows 0 and 2 leave 0.15 and row 3 0.25; the first of the two.
    assert greedy(losses, 4) == [1, 0, 2, 3]
    assert greedy(losses, 2) == [1, 0]
    # Nothing improves on row 0: the others follow by their own mean.
    assert greedy(np.array([[0.0], [0.5], [0.2]]), 3) == [0, 2, 1]


def test_portfolio_normalises_each_dataset() -> None:
    # first: 0, 1/4, 1 and the failed one 1; second: 1, 1/2, 0, 1. By their means row 1 is the first (without
    # normalising, row 2 were), and row 2 leaves less than row 0.
    history = History((trained("first", [0.1, 0.15, 0.3, NAN]), trained("second", [0.9, 0.7, 0.5, 0.9])), {})
    assert asked_by("portfolio", history) == [A[1], A[2], A[0], A[3]]


def test_portfolio_goes_on_at_random() -> None:
    history = History((trained("first", [0.4, 0.3, 0.2, 0.1]),), {})
    orders = {tuple(asked_by("portfolio", history, seed=seed, size=1)) for seed in range(8)}
    assert {order[0] for order in orders} == {A[3]}
    assert all(set(order) == set(A) for order in orders)
    assert len(orders) > 1
    with pytest.raises(InvalidInput, match="size of portfolio must be at least 1"):
        optimizer("portfolio", history=history, size=0)


def test_losses_are_those_at_full_fidelity_or_at_the_last_epoch_there_is() -> None:
    transfer = Transfer(replace(TASK, max_epochs=1))
    losses = trained("first", [0.4, 0.3, 0.2, 0.1])
    assert transfer.losses(losses) == dict.fromkeys(A, 0.0)  # all 0.9 after epoch 1
    assert Transfer(replace(TASK, max_epochs=9)).losses(losses)[A[3]] == 0.0
    assert Transfer(TASK).losses(trained("failed", [NAN] * 4)) == dict.fromkeys(A, 1.0)


def test_configs_that_can_be_evaluated_stand_for_themselves() -> None:
    configs = [SPACE.complete({"backbone": "b", "x": 0}), A[2]]
    assert Transfer(TASK).losses(trained("mixed", [0.1, 0.5], configs)) == {A[2]: 1.0}


def test_configs_of_other_backbones_stand_for_the_rest_of_their_values() -> None:
    other = SearchSpace("other", (Hyperparameter("backbone", "categorical", "3d", choices=("3d", "3e")), SPACE["x"]))
    configs = [other.complete({"backbone": name, "x": x}) for name in ("3d", "3e") for x in (1, 3)]
    history = trained("other", [0.1, 0.2, 0.3, 0.5], configs)
    expected = {A[1]: (0.0 + 0.5) / 2, A[3]: (0.25 + 1.0) / 2}
    assert Transfer(TASK).losses(history) == pytest.approx(expected)
    table = replace(TASK, candidates=(A[0], A[3]))  # x = 1 is nearer to 0 than to 3
    assert Transfer(table).losses(history) == pytest.approx({A[0]: 0.25, A[3]: 0.625})
    anywhere = replace(TASK, candidates=None)
    assert Transfer(anywhere).losses(history) == pytest.approx(expected)


def test_distances_are_standardised_and_over_common_features_only() -> None:
    target = {"n": 10.0, "classes": 2.0, "same": 5.0, "own": 1.0}
    training = [{"n": 30.0, "classes": 2.0, "same": 5.0}, {"n": 10.0, "classes": 4.0, "same": 5.0, "odd": NAN}]
    n, classes = np.std([10, 30, 10]), np.std([2, 2, 4])
    assert distances(target, training) == pytest.approx([20 / n, 2 / classes])
    with pytest.raises(InvalidInput, match="none in common"):
        distances({"n": NAN}, training)


def test_the_nearest_datasets_best_configs_come_first() -> None:
    near = trained("near", [0.4, 0.1, NAN, 0.3], metafeatures={"n": 11.0})
    far = trained("far", [0.1, 0.2, 0.3, 0.2], metafeatures={"n": 90.0})
    asked = asked_by("nearest_dataset", History((far, near), {"n": 10.0}))
    # near: 1, 3; its worst and its failed one are left to chance, and far has 0 among its good ones
    assert asked == [A[1], A[3], A[0], A[2]]


@pytest.mark.parametrize("name", ["portfolio", "nearest_dataset"])
def test_they_need_other_datasets(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"{name} learns from other datasets: give it history="):
        optimizer(name)
    with pytest.raises(InvalidInput, match="there are none: use protocol lodo"):
        optimizer(name, history=History((), {"n": 1.0}))
    assert optimizer(name, history=toy_history()).stamp["history"] == ["first", "second", "third"]


def test_only_learners_are_given_a_history() -> None:
    with pytest.raises(InvalidInput, match="random does not learn from other datasets"):
        optimizer("random", history=toy_history())
    with pytest.raises(OptimizerError, match="random has no history"):
        _ = optimizer("random").history


def test_a_history_of_the_targets_family_is_refused() -> None:
    with pytest.raises(LeakageError, match="training dataset first is of the family of the target"):
        History((trained("first", [0.1] * 4),), {}, target_family="first")


def test_arrays_have_a_row_for_each_config() -> None:
    with pytest.raises(InvalidInput, match=r"losses of one must have the shape .* with 4 configs, got \(3, 2\)"):
        DatasetHistory("one", "one", {}, tuple(A), np.ones((3, 2)), np.ones((3, 2)))
    with pytest.raises(InvalidInput, match=r"seconds of one must have the shape .* got \(4, 3\)"):
        DatasetHistory("one", "one", {}, tuple(A), np.ones((4, 2)), np.ones((4, 3)))
