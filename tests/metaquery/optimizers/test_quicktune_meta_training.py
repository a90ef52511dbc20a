"""Meta-training and what it leaves on disk."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaquery.errors import InvalidInput
from metaquery.optimizers.history import DatasetHistory
from metaquery.optimizers.quicktune.artefact import Artefact, Settings, cached_path, content_key
from metaquery.optimizers.quicktune.meta_training import _Source, meta_train, obtain
from metaquery.testing import toy_history

TRAINING = toy_history().training
QUICK = Settings(steps=60)


@pytest.fixture(scope="module")
def artefact() -> Artefact:
    return meta_train(TRAINING, QUICK)


def same(one: Artefact, other: Artefact) -> bool:
    return one.encoder == other.encoder and all(
        np.array_equal(values, other.weights[name]) for name, values in one.weights.items()
    )


def test_it_learns_and_keeps_the_best(artefact: Artefact) -> None:
    seen: list[float] = []
    longer = meta_train(TRAINING, QUICK, lambda _step, _steps, best: seen.append(best))
    assert len(seen) == 3, "validated every 20 steps"
    assert seen == sorted(seen, reverse=True)
    assert longer.report["validation_loss"]["performance"] == seen[-1] < seen[0]
    assert same(longer, artefact), "the same data and settings give the same bytes"


def test_whole_families_are_held_out(artefact: Artefact) -> None:
    assert len(artefact.report["validation"]) == 1
    assert sorted(artefact.report["training"] + artefact.report["validation"]) == ["first", "second", "third"]
    assert artefact.families == ("first", "second", "third")
    one_family = meta_train([replace(item, family="one") for item in TRAINING], Settings(steps=20))
    assert one_family.report["validation"] == one_family.report["training"], "then configs are held out"
    assert math.isfinite(one_family.report["validation_loss"]["cost"])


def test_validation_datasets_only_choose_the_step() -> None:
    given = meta_train(TRAINING[:2], QUICK, validation=TRAINING[2:])
    assert (given.report["training"], given.report["validation"]) == (["first", "second"], ["third"])
    assert given.families == ("first", "second", "third")
    keys = {content_key(TRAINING, QUICK), content_key(TRAINING[:2], QUICK, TRAINING[2:]), given.key}
    assert keys == {content_key(TRAINING, QUICK), given.key}
    first = replace(TRAINING[2], losses=TRAINING[2].losses[:, ::-1])
    other = meta_train(TRAINING[:2], Settings(steps=20), validation=[first])
    once = meta_train(TRAINING[:2], Settings(steps=20), validation=TRAINING[2:])
    assert other.report["validation_loss"] != once.report["validation_loss"]
    with pytest.raises(InvalidInput, match="needs validation datasets with at least one trial"):
        meta_train(TRAINING, QUICK, validation=[replace(first, losses=np.full_like(first.losses, np.nan))])


def test_epochs_that_were_not_trained_teach_nothing() -> None:
    """Where a trial had stopped by its own rule, its last loss stands at later epochs, which cost nothing."""
    losses, seconds = TRAINING[0].losses.copy(), TRAINING[0].seconds.copy()
    losses[:, 1:], seconds[:, 1:] = losses[:, :1], 0.0
    stopped = replace(TRAINING[0], losses=losses, seconds=seconds)
    losses, seconds = losses.copy(), seconds.copy()
    losses[:, 1:] = seconds[:, 1:] = np.nan
    short = replace(TRAINING[0], losses=losses, seconds=seconds)
    encoder = meta_train(TRAINING, Settings(steps=1)).encoder
    one, other = (_Source(encoder, item).sample(np.random.default_rng(0), 50) for item in (stopped, short))
    assert set(one.points.epochs) == {1 / encoder.epochs}
    assert one.targets.tolist() == other.targets.tolist()


def test_order_decides_nothing_and_content_everything(artefact: Artefact) -> None:
    assert content_key(TRAINING[::-1], QUICK) == artefact.key
    assert same(meta_train(TRAINING[::-1], QUICK), artefact)
    losses = TRAINING[0].losses.copy()
    losses[0, 0] += 1e-9
    changed = [
        ((replace(TRAINING[0], losses=losses), *TRAINING[1:]), QUICK),
        ((replace(TRAINING[0], metafeatures={"n_train": 1.0}), *TRAINING[1:]), QUICK),
        (TRAINING[:2], QUICK),
        *((TRAINING, replace(QUICK, **{name: value})) for name, value in [("steps", 61), ("grey_box", False)]),
        *((TRAINING, replace(QUICK, **{name: value})) for name, value in [("metafeatures", False), ("seed", 1)]),
    ]
    keys = {content_key(training, settings) for training, settings in changed}
    assert len(keys | {artefact.key}) == len(changed) + 1


def test_ablations_have_no_inputs_to_read(artefact: Artefact) -> None:
    blind = meta_train(TRAINING, Settings(steps=20, grey_box=False, metafeatures=False))
    assert any(name.startswith("curve") for name in artefact.part("performance"))
    assert any(name.startswith("meta") for name in artefact.part("cost"))
    assert not any(name.startswith(("curve", "meta")) for name in blind.part("performance"))
    assert not any(name.startswith(("curve", "meta")) for name in blind.part("cost"))


def test_configs_without_a_single_epoch_are_left_out() -> None:
    losses = TRAINING[0].losses.copy()
    losses[1:] = np.nan
    found = meta_train([replace(TRAINING[0], losses=losses), *TRAINING[1:]], Settings(steps=20))
    assert math.isfinite(found.report["validation_loss"]["performance"])


@pytest.mark.parametrize("empty", [(), (replace(TRAINING[0], losses=np.full_like(TRAINING[0].losses, np.nan)),)])
def test_nothing_to_learn_from_is_refused(empty: tuple[DatasetHistory, ...]) -> None:
    with pytest.raises(InvalidInput, match="at least one trial that ran"):
        meta_train(empty, QUICK)
    with pytest.raises(InvalidInput, match="at least one step, got 0"):
        Settings(steps=0)


def test_it_comes_back_from_disk(artefact: Artefact, tmp_path: Path) -> None:
    path = tmp_path / "made" / "here.safetensors"
    artefact.save(path)
    back = Artefact.load(path)
    assert same(back, artefact)
    assert (back.key, back.settings, back.families, back.report) == (
        artefact.key,
        artefact.settings,
        artefact.families,
        artefact.report,
    )
    assert [item.name for item in path.parent.iterdir()] == [path.name], "nothing half-made is left"


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def other_version(content: bytes) -> bytes:
    return content.replace(rb"\"version\": 2", rb"\"version\": 9")


def other_file(_: bytes) -> bytes:
    from safetensors.numpy import save

    return bytes(save({"x": np.zeros(2)}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [(cut, "is not an artefact"), (other_file, "is not an artefact"), (other_version, "is of version 9, expected 2")],
)
def test_damaged_files_are_refused(
    artefact: Artefact, tmp_path: Path, damage: Callable[[bytes], bytes], words: str
) -> None:
    path = tmp_path / "a.safetensors"
    artefact.save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InvalidInput, match=words):
        Artefact.load(path)
    with pytest.raises(InvalidInput, match="is not an artefact"):
        Artefact.load(tmp_path / "absent")


def test_it_is_trained_once_and_then_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEDCURVES_CACHE", str(tmp_path))
    first = obtain(TRAINING, QUICK)
    said = capsys.readouterr().err
    assert "60/60 steps" in said
    assert "meta-trained in" in said
    again: Any = obtain(TRAINING[::-1], QUICK)
    assert capsys.readouterr().err == "", "nothing was trained"
    assert same(first, again)
    path = cached_path(first.key)
    path.write_bytes(b"damaged")
    assert same(obtain(TRAINING, QUICK), first), "a damaged file in the cache is made again"
    assert same(Artefact.load(path), first)
