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

from metaquery.errors import InvalidInput, LeakageError, UnknownName
from metaquery.optimizers import History, optimizer
from metaquery.optimizers.quicktune.artefact import Settings
from metaquery.optimizers.quicktune.encoding import Encoder, LossScale
from metaquery.optimizers.quicktune.meta_training import meta_train
from metaquery.optimizers.quicktune.refitting import RefitPolicy
from metaquery.optimizers.quicktune.surrogate import Surrogate
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
    one = Surrogate(configs, encoder, {}, grey_box=True, cost=True, seed=0, policy=policy or RefitPolicy())
    for step in range(n):
        row, epoch = step % len(configs), step // len(configs) + 1
        curve = SyntheticBenchmark(failing=0.0).curve(configs[row])
        one.observe(row, epoch, float(curve.value[epoch - 1]), float(curve.seconds[epoch - 1]))
    return one


def test_running_evaluations_count_as_ended_as_predicted() -> None:
    one = surrogate()
    alone, beside = one.predict(), one.predict([2, 3])
    np.testing.assert_array_equal(beside.mean, alone.mean)
    assert (beside.deviation <= alone.deviation + 1e-9).all()
    assert beside.deviation[2] < 0.99 * alone.deviation[2]


def never(**changed: Any) -> RefitPolicy:
    """A policy that fits once, at the first prediction."""
    return RefitPolicy(**{"early": 1, "early_steps": 5, "growth": 1e9, "patience": 1e9, **changed})


def test_between_refits_the_posterior_still_learns() -> None:
    """Grown by ten observations, it predicts what one made anew of all of them does, for losses and for seconds."""
    one = surrogate(n=len(GRID), policy=never())
    first = one.predict()
    assert one.predict().mean.tolist() == first.mean.tolist()
    for row in range(len(GRID)):
        one.observe(row, 2, 0.5 + 0.04 * row, 1.0 + row)
        grown = one.predict()
    assert np.abs(grown.mean - first.mean).max() > 1e-3
    assert one._fitted == len(GRID), "it was fitted again"
    one._conditioned_anew()
    anew = one.predict()
    for name in ("mean", "deviation", "seconds"):
        np.testing.assert_allclose(getattr(grown, name), getattr(anew, name), rtol=0, atol=1e-7)


def test_a_fit_is_kept_while_what_comes_is_as_likely_as_what_it_was_fitted_to() -> None:
    one = surrogate(n=len(GRID), policy=RefitPolicy(early=1, growth=0.1, patience=1e9))
    expected = one.predict().mean
    weights = float(one._gp.parameters["log_noise"])
    for row in range(len(GRID)):
        one.observe(row, 2, float(expected[row]), 1.0)
        expected = one.predict().mean
    assert float(one._gp.parameters["log_noise"]) == weights
    for row in range(len(GRID)):
        one.observe(row, 3, 0.0 if row % 2 else 1.0, 1.0)
        one.predict()
    assert float(one._gp.parameters["log_noise"]) != weights


def test_on_a_stall_it_starts_again_and_then_waits_twice_as_long() -> None:
    one = surrogate(n=0, policy=RefitPolicy(patience=5 / 27))
    restarted = []
    for step in range(40):
        before = one._gp
        one.observe(step % len(GRID), step // len(GRID) + 1, 0.5, 1.0)
        assert np.isfinite(one.predict().mean).all()
        restarted += [step] if one._gp is not before else []
    assert restarted == [5, 15, 35]
    one.observe(5, 4, 0.4, 1.0)
    assert one._stalled == 0


def test_a_long_study_conditions_on_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metaquery.optimizers.quicktune.surrogate._MOST_CONDITIONED", 30)
    monkeypatch.setattr("metaquery.optimizers.quicktune.surrogate._MOST_GROWN", 20)
    one = surrogate(n=100, policy=never())
    kept = one._kept()
    assert len(kept) == 30
    newest = {row: (row, epoch) for row, epoch in one._observed}
    assert set(newest.values()) <= set(kept)
    assert kept == [pair for pair in one._observed if pair in set(kept)]
    assert np.isfinite(one.predict().mean).all()
    assert len(one._posterior) == 30
    for row in range(100, 100 + 21):
        one.observe(row % len(GRID), row // len(GRID) + 1, 0.4, 1.0)
        one.predict()
    assert len(one._posterior) <= 50, "30 and 20 taken up since"


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
            "quicktune:meta_steps=60:metafeatures=false:grey_box=false:cost=false",
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


def test_it_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from metaquery.optimizers import optimizer;"
        "from metaquery.testing import SyntheticBenchmark; bench = SyntheticBenchmark(); one = optimizer('dyhpo');"
        "assert 'scipy' not in sys.modules; one.bind(bench.task);"
        "[one.tell(s, bench.query(s.config, s.epoch)) for s in (one.ask() for _ in range(4))]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_two_thousand_candidates_take_well_under_the_promised_time() -> None:
    """With 200 observed epochs; refits count, one at every fifth ask here."""
    rng = np.random.default_rng(0)
    pool = list({TOY_SPACE.sample(rng) for _ in range(2000)})
    one = surrogate(n=190, configs=pool, policy=RefitPolicy(growth=0.02, tolerance=-math.inf))
    one.predict()
    started = time.process_time()  # one thread: the time it takes on a machine with nothing else to do
    for row in range(20):
        one.observe(row, 2, 0.3, 1.0)
        one.predict()
    assert (time.process_time() - started) / 20 < 0.150


def test_what_stopped_by_its_own_rule_is_not_asked_for_again() -> None:
    one = bound(task=replace(TASK, max_epochs=5))
    asked = []
    for _ in range(2 * len(GRID)):
        suggestion = one.ask()
        asked.append((suggestion.config, suggestion.epoch))
        ended = suggestion.epoch > 1  # all of them after one epoch
        one.tell(suggestion, Observation(0.3, 1.0, Status.EARLY_STOPPED if ended else Status.COMPLETED))
    assert len(set(asked)) == len(asked)
    assert max(epoch for _, epoch in asked) == 2
    assert np.isfinite(one._surrogate.table.losses).sum() == len(GRID), "a value that stands is no observation"
    assert one.ask() is None


def test_the_stamp_says_what_meta_trained_it(artefact: str) -> None:
    one = bound("quicktune", history=toy_history(), artefact=artefact)
    found = one.stamp["meta_training"]
    assert found["charged"] is False
    assert found["seconds"] > 0
    assert sorted(found["training"] + found["validation"]) == ["first", "second", "third"]
    assert "meta_training" not in bound("quicktune:meta=false", history=toy_history()).stamp


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
