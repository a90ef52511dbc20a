"""Plans: designs of a study's own, repeats, the order of trials, budgets, and the file."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import assert_one_line_error
from instant import wide_study
from phantom_study import grid_of, write_study

from corpus_builder.backbones import backbone_spec
from corpus_builder.backbones.work import forward_work
from corpus_builder.cost import _CALL_SECONDS as CALL_SECONDS
from corpus_builder.cost import _FLOPS_PER_SECOND as FLOPS_PER_SECOND
from corpus_builder.cost import _OTHER_CALLS as OTHER_CALLS
from corpus_builder.cost import _VALUES_PER_SECOND as VALUES_PER_SECOND
from corpus_builder.cost import calibrated_cost, nominal_cost, role_counts
from corpus_builder.datasets import load_card
from corpus_builder.designs import spread
from corpus_builder.plan import Plan, make_plan, read_plan, study_trials, summary, within, write_plan
from corpus_builder.study import Study, load_study
from metaquery.errors import InvalidInput
from metaquery.space import Config, Distances

MIXED: dict[str, Any] = {
    "datasets": ["pneumoniamnist", "breastmnist", "phantom_nodules3d"],
    "backbones": ["tiny_2d.scratch", "resnet20.cifar10", "tiny_3d.scratch"],
    "image_size": {"2d": [32, 32], "3d": [8, 8, 8]},
    "designs": {
        "grid": grid_of(
            ["tiny_2d.scratch", "resnet20.cifar10", "tiny_3d.scratch"],
            lr=[1e-4, 1e-3, 1e-2],
            batch_size=[16, 32, 64],
            optimizer=["adamw", "sgd"],
            freeze=[0.0, 1.0],
        ),
        "sobol": 16,
    },
    "trials_per_unit": 4,
    "caps": {},
}


def study(path: Path, **changes: Any) -> Study:
    return load_study(write_study(path / "study.yaml", **changes))


def by_cell(plan: Plan) -> dict[tuple[str, str], list[Any]]:
    found: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for trial in plan.trials:
        found[trial.cell].append(trial)
    return found


def test_a_study_chooses_its_own_grid(tmp_path: Path) -> None:
    grid = grid_of(["tiny_3d.scratch"], lr=[1e-3, 1e-2], dropout=[0, 0.25], optimizer=["sgd"])
    made = study(tmp_path, designs={"grid": grid})
    plan = make_plan(made)
    axes = {(t.spec.config["lr"], t.spec.config["dropout"], t.spec.config["optimizer"]) for t in plan.trials}
    assert axes == {(lr, dropout, "sgd") for lr in (1e-3, 1e-2) for dropout in (0.0, 0.25)}
    assert len(plan.trials) == 4
    assert plan.space.core().grid() == plan.space.grid()
    assert set(plan.space.grid()) == {t.spec.config for t in plan.trials}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"designs": {"grid": {"learning_rat": [1.0]}}}, ["designs.grid: unknown hyperparameter 'learning_rat'"]),
        ({"designs": {"grid": {"lr": [10.0]}}}, ["designs.grid: lr must be a number in", "got 10.0"]),
        ({"designs": {"grid": {"lr": []}}}, ["designs.grid"]),
        ({"designs": {"grid": {"backbone": ["tiny_3d.scratch"]}}}, ["give backbones under backbones"]),
        ({"repeats": {"share": 0.5}}, ["repeats"]),
        ({"repeats": {"share": 2, "seeds": [1]}}, ["repeats.share"]),
        ({"repeats": {"share": 0.5, "seeds": [0, 1]}}, ["repeats.seeds must be further ones, but [0] are in seeds"]),
        ({"repeats": {"share": 0.5, "seeds": [1]}, "designs": {"sobol": 2}}, ["add grid to designs"]),
        ({"folds": [7]}, ["phantom_nodules3d has no fold 7"]),
        ({"repeats": {"share": 0.5, "folds": [9]}}, ["no dataset has the fold 9"]),
    ],
)
def test_studies_that_are_refused(command: Any, tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    path = write_study(tmp_path / "s.yaml", **changes)
    assert_one_line_error(command("corpus-builder", "plan", path, "--out", tmp_path / "p.parquet"), *words)
    assert not (tmp_path / "p.parquet").exists()


def test_repeats_are_a_stratified_share_of_every_cell(tmp_path: Path) -> None:
    repeats = {"share": 0.2, "folds": [1, 2], "seeds": [1, 2]}
    mixed = {**MIXED, "datasets": ["cheng_brain_tumor_mri", "phantom_nodules3d"], "repeats": repeats}
    plan = make_plan(study(tmp_path, **mixed))
    assert plan.trials == make_plan(study(tmp_path, **mixed)).trials
    main = Counter(t.cell for t in plan.trials if t.design == "grid" and (t.spec.fold, t.spec.seed) == (0, 0))
    assert set(main.values()) == {18, 36}  # freeze has two values where there is something to freeze
    for cell, trials in by_cell(plan).items():
        again: dict[str, set[tuple[int, int]]] = defaultdict(set)
        for trial in trials:
            again[trial.spec.config.config_id].add((trial.spec.fold, trial.spec.seed))
            assert trial.design == "grid" or (trial.spec.fold, trial.spec.seed) == (0, 0)
        times = Counter(map(len, again.values()))
        count = -(-main[cell] // 5)
        assert times[5] == count
        assert all(pairs == {(0, 0), (1, 0), (2, 0), (0, 1), (0, 2)} for pairs in again.values() if len(pairs) > 1)
        made = plan.study
        space = made.space_for(made.card(cell[0])).restrict("backbone", [cell[1]])
        order = [config.config_id for config in space.grid()]
        drawn = [order.index(config_id) for config_id, pairs in again.items() if len(pairs) > 1]
        assert all(len(set(run) & set(drawn)) == 1 for run in np.array_split(np.arange(len(order)), count))


@pytest.mark.parametrize("size", [1, 4, 7])
def test_after_any_unit_all_cells_have_as_many_trials(tmp_path: Path, size: int) -> None:
    plan = make_plan(study(tmp_path, **{**MIXED, "trials_per_unit": size, "seeds": [0, 1]}))
    totals = Counter(trial.cell for trial in plan.trials)
    done: Counter[tuple[str, str]] = Counter()
    for unit in plan.units:
        assert 1 <= len(unit.trials) <= size
        assert len({t.cell for t in unit.trials}) == 1
        shared = {(t.spec.fold, t.spec.config["batch_size"], t.spec.config.get("freeze")) for t in unit.trials}
        assert len(shared) == 1
        done[unit.trials[0].cell] += len(unit.trials)
        unfinished = [done[cell] for cell in totals if done[cell] < totals[cell]]
        assert not unfinished or max(done.values()) - min(unfinished) <= size
    assert done == totals


def test_every_beginning_of_a_cell_is_spread_over_the_space(tmp_path: Path) -> None:
    made = study(tmp_path, **{**MIXED, "trials_per_unit": 1})
    card = made.card("pneumoniamnist")
    space = made.space_for(card).restrict("backbone", ["resnet20.cifar10"])
    configs = tuple(space.grid())
    order = spread(space, configs)
    assert sorted(order) == list(range(len(configs)))
    assert configs[order[0]] == space.default()
    distances = np.array([Distances(space, configs)(config) for config in configs])
    for count in range(1, len(order)):
        nearest = distances[list(order[:count])].min(axis=0)
        assert nearest[order[count]] == pytest.approx(nearest.max())  # greedy maximin, against the plain matrix
    drawn = [t.spec.config for t in study_trials(made) if t.cell == ("pneumoniamnist", "resnet20.cifar10")]
    grid = set(configs)
    assert [config for config in drawn if config in grid] == [configs[row] for row in order]
    first_half = drawn[: len(drawn) // 2]
    share = sum(config not in grid for config in first_half) / len(first_half)
    assert share == pytest.approx(1 - len(grid) / len(drawn), abs=0.1)  # both designs in proportion


def cost_of_one(spec: Any) -> float:
    return 10.0


def test_a_budget_keeps_every_cell_first_and_is_nested(tmp_path: Path) -> None:
    made = study(tmp_path, **MIXED)
    everything = study_trials(made, cost_of_one)
    n_cells = len({trial.cell for trial in everything})
    assert n_cells == 5
    first = within(everything, 10.0 * n_cells)
    assert {trial.cell for trial in first} == {trial.cell for trial in everything}
    for trial in first:
        own = made.space_for(made.card(trial.spec.dataset)).restrict("backbone", [trial.cell[1]])
        assert trial.spec.config == own.default()
    before: list[Any] = []
    for seconds in (55.0, 200.0, 777.0, 1e6):
        kept = within(everything, seconds)
        assert kept[: len(before)] == before
        assert len(kept) == min(len(everything), int(seconds // 10))
        counts = Counter(trial.cell for trial in kept)
        assert seconds > 1e5 or max(counts.values()) - min(counts.values()) <= 1
        before = kept
    with pytest.raises(InvalidInput, match="not enough for one trial, which takes"):
        within(everything, 9.0)
    with pytest.raises(InvalidInput, match="needs predicted costs"):
        within(study_trials(made), 9.0)


def test_a_plan_with_a_budget_says_what_it_leaves(tmp_path: Path) -> None:
    made = study(tmp_path, **MIXED)
    plan = make_plan(made, cost_of_one, 30.0)
    rows, lines = summary(plan)
    assert len(plan.trials) == 3
    assert sum(int(row["trials"]) + int(row["left out"]) for row in rows) == len(make_plan(made).trials)
    assert lines[0] == f"3 trials of 3 epochs in 3 units, {30 / 3600:.2f} hours"
    assert lines[2].startswith("2 of 5 dataset x backbone have no trial: ")
    write_plan(plan, tmp_path / "p.parquet")
    again = read_plan(tmp_path / "p.parquet")
    assert again == plan
    assert [t.predicted_seconds for t in again.trials] == [10.0] * 3
    assert summary(again) == summary(plan)


def test_nominal_costs_count_the_work_of_every_epoch(tmp_path: Path) -> None:
    made = study(tmp_path, **MIXED, epochs=2)
    specs = {
        (t.cell, t.spec.config.get("freeze"), t.spec.config["batch_size"], t.design): t.spec
        for t in study_trials(made)
        if t.spec.dataset == "pneumoniamnist"
    }
    cost = nominal_cost(made)
    counts = role_counts(made.card("pneumoniamnist"), made)
    whole, frozen = (specs[("pneumoniamnist", "resnet20.cifar10"), share, 32, "grid"] for share in (0.0, 1.0))
    augmented = replace(frozen, config=Config({**frozen.config, "augmentation": "light"}))
    flops, values, calls = forward_work(backbone_spec("resnet20.cifar10"), (32, 32))[1]
    sample, call = flops / FLOPS_PER_SECOND + values / VALUES_PER_SECOND, CALL_SECONDS
    steps, batches = counts["train"] // 32, -(-counts["val"] // 128) + -(-counts["test"] // 128)
    train = steps * (32 * sample + calls * call)
    rest = (counts["val"] + counts["test"]) * sample + batches * calls * call
    other = 2 * (3 * steps + batches) * OTHER_CALLS * call
    assert cost(whole) == pytest.approx(2 * (3 * train + rest) + other)
    assert cost(frozen) == pytest.approx(train + rest + other)  # once for all epochs
    assert cost(augmented) == pytest.approx(2 * train + rest + other)
    assert nominal_cost(made, 10.0)(whole) == pytest.approx(cost(whole) / 10)


def test_trials_that_take_too_long_are_left_out_and_counted(tmp_path: Path) -> None:
    made = study(tmp_path, **MIXED)
    cost = nominal_cost(made)
    trials = study_trials(made, cost)
    seconds = {t.spec.trial_id: cost(t.spec) for t in trials}
    longest = float(np.median(list(seconds.values())))
    plan = make_plan(made, cost, longest_seconds=longest)
    kept = {t.spec.trial_id for t in plan.trials}
    assert {name for name, value in seconds.items() if value <= longest} <= kept
    assert sum(load.trials for load in plan.left_out.values()) == len(trials) - len(kept) > 0
    both = make_plan(made, cost, sum(seconds.values()) / 50, longest)
    assert 0 < len(both.trials) < len(plan.trials)
    assert {t.spec.trial_id for t in both.trials} <= kept
    write_plan(both, tmp_path / "p.parquet")
    assert read_plan(tmp_path / "p.parquet") == both
    assert "hours and the limit of " in summary(both)[1][1]


@pytest.mark.parametrize("quantile", [0.0, 0.3, 0.7, 1.0])
def test_of_every_dataset_and_backbone_the_cheapest_trial_stays(tmp_path: Path, quantile: float) -> None:
    made = study(tmp_path, **MIXED)
    cost = nominal_cost(made)
    trials = study_trials(made, cost)
    longest = float(np.quantile([cost(t.spec) for t in trials], quantile))
    plan = make_plan(made, cost, longest_seconds=longest)
    kept = by_cell(plan)
    for cell in {t.cell for t in trials}:
        seconds = sorted(cost(t.spec) for t in trials if t.cell == cell)
        within_limit = [s for s in seconds if s <= longest]
        assert sorted(cost(t.spec) for t in kept[cell]) == (within_limit or seconds[:1])
    assert len(summary(plan)[1]) == 2  # no line about cells without a trial


def test_costs_never_exceed_the_time_limit(tmp_path: Path) -> None:
    made = study(tmp_path, time_limit_seconds=0.5)
    assert {t.predicted_seconds for t in study_trials(made, nominal_cost(made, speed=1e-6))} == {0.5}


def test_calibrated_costs_are_the_sum_over_epochs(tmp_path: Path) -> None:
    made = study(tmp_path, caps={"train": 60, "val": 40, "test": 40})

    class Costs:
        def epoch_cost(self, config: Any, epoch: int, data: Any) -> tuple[float, float]:
            return len(data.train.labels) * epoch, data.test.images.shape[-1]

    cost = calibrated_cost(made, Costs())
    (seconds,) = {t.predicted_seconds for t in study_trials(made, cost)}
    counts = role_counts(load_card("phantom_nodules3d"), made)
    assert counts["train"] <= 60
    assert seconds == counts["train"] * (1 + 2 + 3) + 3 * 8
    classical = study(tmp_path, backbones=["tiny_3d.scratch", "radiomics_3d.rf"])  # which no calibration has
    for trial in study_trials(classical, calibrated_cost(classical, Costs())):
        without_epochs = trial.cell[1] == "radiomics_3d.rf"
        assert (trial.predicted_seconds == nominal_cost(classical)(trial.spec)) == without_epochs


def test_old_plans_are_refused(command: Any, tmp_path: Path) -> None:
    made = study(tmp_path)
    write_plan(make_plan(made), tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    pq.write_table(table.drop_columns(["predicted_seconds"]), tmp_path / "old.parquet")
    done = command("corpus-builder", "run", tmp_path / "old.parquet", "--run-dir", tmp_path / "run")
    assert_one_line_error(done, "was made by another version of corpus_builder: plan again")


def test_the_command_prints_what_is_kept(command: Any, tmp_path: Path) -> None:
    path = write_study(tmp_path / "s.yaml", **wide_study())
    options = ("--budget", "1m", "--speed", "0.02")
    done = command("corpus-builder", "plan", path, "--out", tmp_path / "p.parquet", *options)
    assert done.returncode == 0, done.stderr
    assert "left out" in done.stdout
    assert "the budget of 0.0166667 hours leaves" in done.stdout
    assert "for 0.02 times the speed of one core of a server's CPU, without a calibration" in done.stdout
    kept = read_plan(tmp_path / "p.parquet")
    assert 0 < sum(t.predicted_seconds or 0.0 for t in kept.trials) <= 60
    bad = command("corpus-builder", "plan", path, "--out", tmp_path / "q.parquet", "--budget", "soon")
    assert_one_line_error(bad, "'soon' is not a duration")
