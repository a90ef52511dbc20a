"""The loop of Quick-Tune, its ablations, and its variants by name."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from metaquery.errors import InvalidInput, LeakageError, UnknownName
from metaquery.optimizers import History, optimizer
from metaquery.optimizers.quicktune.artefact import Settings
from metaquery.optimizers.quicktune.encoding import Encoder, LossScale
from metaquery.optimizers.quicktune.meta_training import meta_train
from metaquery.optimizers.quicktune.surrogate import RefitPolicy, Surrogate
from metaquery.testing import TOY_SPACE, SyntheticBenchmark, toy_history
from metaquery.types import Observation, Status, Suggestion, Task

GRID = tuple(TOY_SPACE.core().grid())
TASK = Task(TOY_SPACE.core(), max_epochs=27, worst_loss=1.0, candidates=GRID)
BENCH = SyntheticBenchmark(space=TOY_SPACE.core(), configs=GRID, failing=0.0)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("artefact") / "toy.safetensors"
    meta_train(toy_history().training, Settings(steps=60)).save(path)
    return str(path)


def bound(name: str = "dyhpo", task: Task = TASK, seed: int = 0, **options: Any) -> Any:
    one = optimizer(name, seed=seed, **options)
    one.bind(task)
    return one


def asks(one: Any, n: int) -> list[Suggestion]:
    found = []
    for _ in range(n):
        suggestion = one.ask()
        one.tell(suggestion, BENCH.query(suggestion.config, suggestion.epoch))
        found.append(suggestion)
    return found


def test_every_config_is_trained_on_by_one_epoch_at_a_time(artefact: str) -> None:
    reached: dict[Any, int] = {}
    for suggestion in asks(bound("quicktune", history=toy_history(), artefact=artefact), 25):
        assert suggestion.epoch == reached.get(suggestion.config, 0) + 1
        reached[suggestion.config] = suggestion.epoch
    assert max(reached.values()) > 1, "it never trained anything on"


def test_the_order_of_the_candidates_decides_nothing(artefact: str) -> None:
    for name, options in (("dyhpo", {}), ("quicktune", {"history": toy_history(), "artefact": artefact})):
        shuffled = replace(TASK, candidates=GRID[::-1])
        one, other = bound(name, **options), bound(name, shuffled, **options)
        assert [(s.config, s.epoch) for s in asks(one, 12)] == [(s.config, s.epoch) for s in asks(other, 12)]


def test_what_failed_or_ended_is_not_asked_for_again() -> None:
    one = bound(task=replace(TASK, max_epochs=2))
    failed, reached = set(), []
    while not one.finished:
        suggestion = one.ask()
        if suggestion is None:
            break
        assert suggestion.config not in failed
        if len(reached) % 5 == 4:
            failed.add(suggestion.config)
            one.tell(suggestion, Observation(math.nan, 1.0, Status.DIVERGED))
        else:
            one.tell(suggestion, BENCH.query(suggestion.config, suggestion.epoch))
        reached.append((suggestion.config, suggestion.epoch))
    assert one.finished
    assert len(set(reached)) == len(reached)
    assert all((config, 2) in reached for config in set(GRID) - failed)


def test_what_is_running_is_not_asked_for_again() -> None:
    one = bound()
    asks(one, 3)
    running = [one.ask() for _ in GRID]
    assert len({suggestion.config for suggestion in running}) == len(GRID)
    assert one.ask() is None
    assert not one.finished
    first = running[0]
    one.tell(first, BENCH.query(first.config, first.epoch))
    assert one.ask().config == first.config


def surrogate(n: int = 40, configs: Sequence[Any] = GRID, policy: RefitPolicy | None = None) -> Surrogate:
    encoder = Encoder(Encoder.axes_of(configs), 27, LossScale(1.0, 0.0, 1.0))
    chosen = policy or RefitPolicy()
    one = Surrogate(configs, encoder, {}, grey_box=True, cost=True, seed=0, policy=chosen)
    for step in range(n):
        row, epoch = step % len(configs), step // len(configs) + 1
        curve = SyntheticBenchmark(failing=0.0).curve(configs[row])
        one.observe(row, epoch, float(curve.value[epoch - 1]), float(curve.seconds[epoch - 1]))
    return one


def test_running_evaluations_count_as_ended_as_predicted() -> None:
    one = surrogate()
    rows, epochs = np.arange(len(GRID)), np.full(len(GRID), 40 // len(GRID) + 1)
    alone = one.predict(rows, epochs, [])
    beside = one.predict(rows, epochs, [(2, int(epochs[2])), (3, int(epochs[3]))])
    np.testing.assert_allclose(beside.mean, alone.mean, atol=1e-6)
    assert (beside.deviation <= alone.deviation + 1e-9).all()
    assert beside.deviation[2] < 0.99 * alone.deviation[2]


def test_between_refits_the_posterior_still_learns() -> None:
    seldom = RefitPolicy(early=1, early_steps=5, steps=0, growth=1e9)
    n = len(GRID)
    one, at = surrogate(n=n, policy=seldom), (np.arange(n), np.full(n, 2))
    first = one.predict(*at, [])
    assert one.predict(*at, []).mean.tolist() == first.mean.tolist()
    one.observe(0, 2, 0.9, 1.0)
    assert np.abs(one.predict(*at, []).mean - first.mean).max() > 1e-3
    assert (one._conditioned, one._fitted) == (n + 1, n)


def test_a_long_study_conditions_on_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metaquery.optimizers.quicktune.surrogate._MOST_CONDITIONED", 30)
    one = surrogate(n=100)
    kept = one._kept()
    assert len(kept) == 30
    newest = {row: (row, epoch) for row, epoch in one._observed}
    assert set(newest.values()) <= set(kept)
    assert kept == [pair for pair in one._observed if pair in set(kept)]
    at = np.arange(len(GRID)), np.full(len(GRID), 100 // len(GRID) + 1)
    assert np.isfinite(one.predict(*at, []).mean).all()


def test_each_flag_turns_its_part_off(artefact: str) -> None:
    history = toy_history()
    runs = {
        name: [(s.config, s.epoch) for s in asks(bound(name, history=history), 10)]
        for name in (
            f"quicktune:artefact={artefact}",
            f"quicktune:artefact={artefact}:cost=false",
            "quicktune:meta=false",
            "quicktune:meta_steps=60:grey_box=false",
            "quicktune:meta_steps=60:metafeatures=false",
        )
    }
    assert len({tuple(run) for run in runs.values()}) == len(runs)
    dyhpo = [(s.config, s.epoch) for s in asks(bound("dyhpo"), 10)]
    off = bound("quicktune:meta=false:cost=false:metafeatures=false", history=history)
    assert [(s.config, s.epoch) for s in asks(off, 10)] == dyhpo


def test_where_nothing_may_train_it_starts_from_random_weights() -> None:
    alone = History((), {}, "toy")
    without = bound("quicktune:meta=false", history=toy_history())
    assert [s.config for s in asks(bound("quicktune", history=alone), 8)] == [s.config for s in asks(without, 8)]


def test_artefacts_that_do_not_belong_are_refused(artefact: str) -> None:
    history = toy_history()
    with pytest.raises(InvalidInput, match="was meta-trained with grey_box=True"):
        bound("quicktune", history=history, artefact=artefact, grey_box=False)
    with pytest.raises(LeakageError, match="meta-trained on the family of the target, second"):
        bound("quicktune", history=History((), {}, "second"), artefact=artefact)
    with pytest.raises(InvalidInput, match="meta-trained on 27 epochs, the task has 50"):
        bound("quicktune", replace(TASK, max_epochs=50), history=history, artefact=artefact)
    assert asks(bound("quicktune", replace(TASK, max_epochs=9), history=history, artefact=artefact), 3)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("quicktune:cost", InvalidInput, "expected quicktune:option=value"),
        ("quicktune:cost=false:cost=true", InvalidInput, "each option once"),
        ("quicktune:cost=maybe", InvalidInput, "cost of quicktune must be true or false, got 'maybe'"),
        ("quicktune:meta_steps=many", InvalidInput, "must be of type int, got 'many'"),
        ("quicktune:costs=true", UnknownName, "did you mean cost"),
        ("dyhpo:meta=true", UnknownName, "unknown option of dyhpo"),
        ("quicktun:cost=true", UnknownName, "did you mean quicktune"),
    ],
)
def test_options_in_names_are_checked(name: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        optimizer(name, history=toy_history())


def test_options_in_names_are_those_given() -> None:
    named = optimizer("quicktune:cost=False:meta_steps=7:artefact=/some/where.safetensors", history=toy_history())
    given = optimizer("quicktune", history=toy_history(), cost=False, meta_steps=7, artefact="/some/where.safetensors")
    assert named.options == given.options
    assert named.options["cost"] is False


def test_torch_is_not_imported_before_it_is_needed() -> None:
    code = (
        "import sys; from metaquery.optimizers import optimizer; optimizer('dyhpo');"
        "assert 'metaquery.optimizers.quicktune.optimizer' in sys.modules; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_two_thousand_candidates_take_well_under_the_promised_time() -> None:
    rng = np.random.default_rng(0)
    pool = list({TOY_SPACE.sample(rng) for _ in range(2000)})
    one = surrogate(n=190, configs=pool)
    rows, epochs = np.arange(len(pool)), np.isfinite(one.table.losses).sum(axis=1) + 1
    one.predict(rows, epochs, [])
    started = time.process_time()  # one thread: the time it takes on a machine with nothing else to do
    for row in range(20):
        one.observe(row, 2, 0.3, 1.0)
        epochs[row] += 1
        one.predict(rows, epochs, [])
    assert (time.process_time() - started) / 20 < 0.150


def test_from_the_command_line(tmp_path: Path, command: Any) -> None:
    out = tmp_path / "artefact.safetensors"
    trained = command(
        "metaquery", "meta-train", "mini", "--datasets", "pneumoniamnist,iqoth_lung_ct", "--steps", 40, "--out", out
    )
    assert trained.returncode == 0, trained.stderr
    assert "40/40 steps" in trained.stderr
    assert "trained on" in trained.stdout
    name = f"quicktune:artefact={out}"
    run = ("metaquery", "run", "mini", "--epochs", 6, "--optimizer", name, "--dataset")
    done = command(*run, "cheng_brain_tumor_mri")
    assert done.returncode == 0, done.stderr
    assert "6 new epochs" in done.stdout
    refused = command(*run, "pneumoniamnist")
    assert refused.returncode == 2
    assert "meta-trained on the family of the target" in refused.stderr
