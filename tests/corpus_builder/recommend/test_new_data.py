"""A new dataset from its files to a model: a folder's card, training within a time, files that say the truth."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import assert_one_line_error

import metaquery as mq
from corpus_builder.datasets import load_card, prepare
from corpus_builder.datasets.cards import card_path
from corpus_builder.execute.work import load_study_data
from corpus_builder.metafeatures.describe import USUAL_SIZES
from corpus_builder.recommend import open_new_data
from corpus_builder.recommend.folder import folder_card
from corpus_builder.recommend.model import load_model, metrics_of
from corpus_builder.recommend.trainer import Trainer
from metaquery.errors import InvalidInput
from metaquery.recommend.command import advise
from metaquery.space import Config
from metaquery.types import Status

AN_HOUR = 3600.0
PLACE: dict[str, Any] = {"images": None, "data_root": None, "weights_root": None, "device": "cpu"}


@pytest.fixture(scope="module")
def new_card(tmp_path_factory) -> Path:
    """The card of phantoms that the corpus does not have."""
    text = card_path("phantom_nodules3d").read_text()
    text = text.replace("name: phantom_nodules3d", "name: other_phantoms")
    text = re.sub(r"family: \S+", "family: other-phantoms", text)
    text = re.sub(r"seed: \d+", "seed: 7", text)
    path = Path(tmp_path_factory.mktemp("card")) / "other_phantoms.md"
    path.write_text(text)
    return path


@pytest.fixture
def trainer(sealed, new_card) -> Trainer:
    return open_new_data([sealed], card=str(new_card), **PLACE).trainer("auc")


@pytest.fixture
def config(trainer) -> Config:
    return trainer.space.complete({"backbone": "tiny_3d.scratch", "lr": 1e-2, "ema": 0.9})


def images(folder: Path, n: int = 12, mode: str = "L") -> Path:
    """Two classes of `n` images, of several sizes, bright and dark."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, level in (("dark", 40), ("bright", 180)):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = np.clip(rng.normal(level, 30, (20 + i % 3, 24)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_a_folder_is_a_dataset(tmp_path, mode, channels):
    folder = images(tmp_path / "My Scans (2)", mode=mode)
    (folder / ".hidden").mkdir()
    (folder / "notes.txt").write_text("not a class")
    card = folder_card(folder, (16, 16))
    assert (card.name, card.classes, card.class_counts) == ("my_scans_2", ("bright", "dark"), (12, 12))
    data = prepare(card, tmp_path, (16, 16))
    assert data.images.shape == (24, channels, 16, 16)
    assert data.images[data.labels == 0].mean() > 150
    assert data.images[data.labels == 1].mean() < 70


def test_a_folder_that_is_no_dataset(tmp_path):
    with pytest.raises(InvalidInput, match="there is no folder"):
        folder_card(tmp_path / "nowhere", (16, 16))
    (tmp_path / "one" / "only").mkdir(parents=True)
    (tmp_path / "one" / "only" / "a.png").write_bytes(b"no image")
    with pytest.raises(InvalidInput, match=r"at least two folders .* got 1 with images \(only\)"):
        folder_card(tmp_path / "one", (16, 16))
    (tmp_path / "one" / "other").mkdir()
    (tmp_path / "one" / "other" / "b.txt").write_text("text")
    with pytest.raises(InvalidInput, match="expected an image that Pillow reads"):
        folder_card(tmp_path / "one", (16, 16))


def test_it_is_measured_as_the_corpus_was(sealed):
    """The corpus's own dataset, asked for again, has the meta-features that the corpus stores of it."""
    found = open_new_data([sealed], card="phantom_nodules3d", **PLACE)
    table = mq.open(sealed).sql("select name, value from metafeatures where fold = 0 and value is not null").rows()
    assert dict(table) == pytest.approx(found.metafeatures)
    assert found.family == load_card("phantom_nodules3d").family


def test_a_corpus_without_a_study_measures_but_does_not_train(tmp_path, new_card, monkeypatch):
    monkeypatch.setitem(USUAL_SIZES, 3, (9, 9, 9))
    (tmp_path / "corpus.json").write_text(json.dumps({"imported": {}}))
    found = open_new_data([tmp_path], card=str(new_card), **PLACE)
    assert found.metafeatures["voxels"] == 9**3
    with pytest.raises(InvalidInput, match="leave --live out"):
        found.trainer("auc")


def test_training_keeps_the_best_model_and_goes_on_from_where_it_was(trainer, config):
    losses = {}
    for epoch in (1, 2, 3):
        observation, reached = trainer.train(config, epoch, AN_HOUR)
        assert (reached, observation.status) == (epoch, Status.COMPLETED)
        losses[epoch] = observation.value
    assert trainer.best is not None
    assert trainer.best.loss == min(losses.values())
    assert losses[trainer.best.epoch] == trainer.best.loss
    assert trainer.train(config, 3, AN_HOUR)[0].value == losses[3]  # nothing is trained again


def test_no_more_epochs_are_begun_than_fit(trainer, config):
    observation, reached = trainer.train(config, 3, 0.0)
    assert (reached, observation.ok) == (1, True)


def test_only_networks_of_the_study_are_accepted(trainer, config):
    assert trainer.accepts(config)
    assert not trainer.accepts(Config({**config, "lr": 1e9}))
    assert not trainer.accepts(Config({"backbone": "resnet18.scratch"}))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_files_give_the_metrics_that_the_card_states(trainer, config, tmp_path, ema):
    config = trainer.space.complete({**config, "ema": ema})
    trainer.train(config, 2, AN_HOUR)
    stated = trainer.write(tmp_path, {"budget": "1 s"})
    data = load_study_data(trainer.study, trainer.card.name, 0, None)
    again = metrics_of(load_model(tmp_path), config, data.test, "test", trainer.device)
    assert again == {name: value for name, value in stated.items() if name.startswith("test_")}
    (kept,) = [c.result for c in trainer._trained.values()]
    at_best = kept.epochs[trainer.best.epoch - 1]
    assert stated == pytest.approx({name: at_best[name] for name in stated})  # those of training itself
    text = (tmp_path / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    (result,) = front["model-index"][0]["results"]
    assert {item["type"]: item["value"] for item in result["metrics"]}["auc"] == stated["test_auc"]
    assert f"| auc | {stated['val_auc']:.4f} | {stated['test_auc']:.4f} |" in text
    assert trainer.card.licence in text
    from huggingface_hub import ModelCardData

    ModelCardData(**front)


def test_files_that_are_no_model(trainer, config, tmp_path):
    with pytest.raises(InvalidInput, match="no epoch of any config was finished"):
        trainer.write(tmp_path, {})
    trainer.train(config, 1, AN_HOUR)
    trainer.write(tmp_path, {})
    tensors = (tmp_path / "model.safetensors").read_bytes()
    for damaged in (tensors[:-10], b"", b"\x80\x04."):
        (tmp_path / "model.safetensors").write_bytes(damaged)
        with pytest.raises(InvalidInput, match="holds no model"):
            load_model(tmp_path)
    with pytest.raises(InvalidInput, match="holds no model"):
        load_model(tmp_path / "nowhere")


def test_the_command_from_a_card_to_a_model(sealed, new_card, tmp_path, command):
    out = tmp_path / "model"
    line = ("metaquery", "recommend", sealed, "--card", new_card, "--live")
    assert_one_line_error(command(*line), "--budget")
    done = command(*line, "--budget", "8s", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "1 other 3-D families only" in done.stdout
    assert {path.name for path in out.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    said = re.search(r"val auc ([\d.]+), test auc ([\d.]+)", done.stdout)
    assert said is not None
    assert f"| auc | {said[1]} | {said[2]} |" in (out / "README.md").read_text()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    assert_one_line_error(command(*line, "--budget", "8s", "--out", tmp_path / "taken"), "something else")


def test_ctrl_c_leaves_the_best_model_so_far(sealed, new_card, tmp_path):
    corpus = Path(shutil.copytree(sealed, tmp_path / "corpus"))
    manifest = json.loads((corpus / "corpus.json").read_text())
    study = manifest["provenance"]["study"]
    study |= {"epochs": 27, "image_size": {"3d": [20, 20, 20]}}  # long enough to be interrupted
    (corpus / "corpus.json").write_text(json.dumps(manifest))
    out = tmp_path / "model"
    line = [Path(sys.executable).with_name("metaquery"), "recommend", corpus, "--card", new_card, "--live"]
    line += ["--budget", "10m", "--optimizer", "hyperband", "--out", out]
    process = subprocess.Popen(list(map(str, line)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = next((text for text in process.stdout if "to epoch" in text), "")
    process.send_signal(signal.SIGINT)
    rest, error = process.communicate(timeout=300)
    assert process.returncode == 130, error
    assert "validation loss" in said
    assert f"written to {out}" in rest
    assert error == f"stopped: interrupted; the best model so far is in {out}\n"
    load_model(out)
    assert "s, then interrupted" in (out / "README.md").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"corpus", "model"}


def test_the_command_for_a_folder_and_the_study(tmp_path, command):
    folder = images(tmp_path / "scans", n=20)
    done = command("metaquery", "recommend", "mini", "--images", folder, "--top", 2)
    assert done.returncode == 0, done.stderr
    assert "every image counts as its own patient" in done.stdout
    assert re.search(r"^  2\. 0\.\d{3} \(", done.stdout, re.MULTILINE)
    assert "  3. " not in done.stdout
    table = tmp_path / "study.csv"
    done = command("metaquery", "recommend", "mini", "--study", "--out", table)
    assert done.returncode == 0, done.stderr
    assert "3 families are too few for a conclusion" in done.stdout
    assert "3-D, 1 datasets of 1 families: one family cannot be held out" in done.stdout
    assert len(table.read_text().splitlines()) == 5
    for words, place in (
        ("expected one of --card CARD and --images FOLDER", {}),
        ("there is no folder", {"images": tmp_path / "nowhere"}),
        ("unknown dataset", {"card": "nothing_like_it"}),
        ("at least 1, got 0", {"images": folder, "top": 0}),
    ):
        with pytest.raises(InvalidInput, match=words):
            advise(mq.open("mini"), **{"top": 5, "say": print, **PLACE, "card": None, **place})
