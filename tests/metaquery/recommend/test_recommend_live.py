"""Fine-tuning from the recommended configs: the time is kept with any optimizer, and only a whole model is left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

import metaquery as mq
from metaquery.errors import Interrupted, InvalidInput
from metaquery.recommend import live
from metaquery.recommend.live import fine_tune
from metaquery.space import Config, Hyperparameter, SearchSpace
from metaquery.types import Observation, Status

SPACE = SearchSpace("one", (Hyperparameter("lr", "float", 0.1, low=0.0, high=1.0),))
CONFIGS = [SPACE.config({"lr": i / 20}) for i in range(20)]
FAILING = CONFIGS[1]


class Clockwork:
    """Trains an epoch in exactly ten seconds of a clock that nothing else moves; the config 0.25 is the best."""

    space, epochs = SPACE, 27

    def __init__(self) -> None:
        self.now = 1000.0
        self.done: dict[Config, int] = {}
        self.asked: list[tuple[Config, int]] = []

    def accepts(self, config: Config) -> bool:
        return config != CONFIGS[0]

    def train(self, config: Config, epoch: int, seconds: float) -> tuple[Observation, int]:
        assert seconds > 0
        before = self.done.get(config, 0)
        reached = min(epoch, before + max(1, int(seconds // 10)))
        self.now += 10.0 * (reached - before)
        self.done[config] = reached
        self.asked.append((config, reached))
        if config == FAILING:
            return Observation(float("nan"), 10.0, Status.DIVERGED), reached
        return Observation(abs(config["lr"] - 0.25) + 1 / reached, 10.0 * reached, Status.COMPLETED), reached

    def write(self, out: Path, facts: Mapping[str, str]) -> dict[str, float]:
        (out / "config.json").write_text(json.dumps(dict(facts)))
        return {"val_auc": 0.5, "test_auc": 0.5}


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Clockwork:
    made = Clockwork()
    monkeypatch.setattr(live.time, "monotonic", lambda: made.now)
    return made


@pytest.mark.parametrize("name", ["asha", "random", "successive_halving", "hyperband", "one_epoch_topk"])
@pytest.mark.parametrize("seconds", [5.0, 95.0, 600.0])
def test_the_time_is_kept_with_any_optimizer(trainer: Clockwork, tmp_path: Path, name: str, seconds: float) -> None:
    out, said = tmp_path / "out", []
    tuned = fine_tune(trainer, CONFIGS, mq.optimizer(name), seconds, out, {"budget": "x"}, 1.0, said.append)
    assert tuned.seconds <= max(seconds, 10.0)  # one epoch is trained however little time there is
    assert tuned.evaluations == len(trainer.asked) == len(said) >= 1
    assert set(trainer.done) <= set(CONFIGS[1 : 1 + live.CANDIDATES])
    assert "recommended configs" in json.loads((out / "config.json").read_text())["optimizer"]


def test_a_longer_time_finds_the_best_of_the_recommended(trainer: Clockwork, tmp_path: Path) -> None:
    fine_tune(trainer, CONFIGS, mq.optimizer("asha"), 3000.0, tmp_path / "out", {}, 1.0, lambda _: None)
    assert max(trainer.done, key=trainer.done.__getitem__) == CONFIGS[5]
    assert trainer.done[FAILING] == 1


def test_ctrl_c_ends_the_time_and_not_the_work(trainer: Clockwork, tmp_path: Path) -> None:
    train = trainer.train

    def train_twice(config: Config, epoch: int, seconds: float) -> tuple[Observation, int]:
        if len(trainer.asked) == 2:
            raise KeyboardInterrupt
        return train(config, epoch, seconds)

    trainer.train = train_twice  # type: ignore[method-assign]
    tuned = fine_tune(trainer, CONFIGS, mq.optimizer("random"), 3000.0, tmp_path / "out", {}, 1.0, lambda _: None)
    assert (tuned.evaluations, tuned.interrupted) == (2, True)
    assert (
        json.loads((tmp_path / "out" / "config.json").read_text())["clock"]
        == f"{tuned.seconds:.0f} s, then interrupted"
    )


def test_ctrl_c_before_there_is_a_model_leaves_nothing(trainer: Clockwork, tmp_path: Path) -> None:
    def interrupt(config: Config, epoch: int, seconds: float) -> tuple[Observation, int]:
        raise KeyboardInterrupt

    def refuse(out: Path, facts: Mapping[str, str]) -> dict[str, float]:
        raise InvalidInput("no epoch of any config was finished")

    trainer.train, trainer.write = interrupt, refuse  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match="no model is written"):
        fine_tune(trainer, CONFIGS, mq.optimizer("asha"), 60.0, tmp_path / "out", {}, 1.0, lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_where_there_is_no_model(trainer: Clockwork, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="none of the recommended configs"):
        fine_tune(trainer, CONFIGS[:1], mq.optimizer("asha"), 60.0, tmp_path / "out", {}, 1.0, print)

    def refuse(out: Path, facts: Mapping[str, str]) -> dict[str, float]:
        raise InvalidInput("no epoch of any config was finished")

    trainer.write = refuse  # type: ignore[method-assign]
    with pytest.raises(InvalidInput, match="no epoch"):
        fine_tune(trainer, CONFIGS, mq.optimizer("asha"), 60.0, tmp_path / "out", {}, 1.0, lambda _: None)
    assert list(tmp_path.iterdir()) == []
