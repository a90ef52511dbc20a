"""LCBench's JSON: the record before training goes, clocks become seconds, percent becomes shares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metaquery as mq
from metaquery.errors import InvalidData
from metaquery.importers import import_corpus

CONFIG = {
    "batch_size": 128,
    "learning_rate": 0.01,
    "momentum": 0.5,
    "weight_decay": 0.02,
    "num_layers": 2,
    "max_units": 200,
    "max_dropout": 0.3,
    "optimizer": "sgd",
    "mlp_shape": "funnel",
}


def entry(epochs: int = 50, **config: Any) -> dict[str, Any]:
    """A run of `epochs` epochs with a record before training, and one more after epoch 50."""
    record = np.arange(epochs + 1 + (epochs == 50))
    return {
        "config": CONFIG | config,
        "results": {"classes": 2, "instances": 690, "features": 14, "OpenML_task_id": 146818},
        "log": {
            "epoch": record.tolist(),
            "time": (3.0 + 2.0 * record).tolist(),
            "Train/val_accuracy": (50.0 + 0.5 * record).tolist(),
            "Train/val_balanced_accuracy": (0.5 + 0.005 * record).tolist(),
            "Train/val_cross_entropy": [20.0, 18.0, *(1.0 - 0.01 * record[2:])],
            "Train/test_result": (40.0 + 0.5 * record).tolist(),
            "Train/lr": [0.01] * len(record),
            "Train/gradient_mean": [0.1] * len(record),
        },
    }


def write_file(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content))
    return path


def content() -> dict[str, Any]:
    runs = {"0": entry(), "1": entry(learning_rate=0.1), "2": entry(20, max_units=64, mlp_shape="shuttle")}
    return {"Australian": runs, "numerai28.6": {"0": entry(), "1": entry(momentum=0.99)}}


def test_content(tmp_path: Path, imported: Any) -> None:
    corpus: mq.Corpus = imported("lcbench", write_file(tmp_path / "data.json", content()))
    assert (corpus.epochs, corpus.default_metric, corpus.datasets) == (50, "accuracy", ("Australian", "numerai28.6"))
    assert "backbone" not in corpus.space.by_name
    rows = corpus.sql(
        """select epoch, val_accuracy::double, val_balanced_accuracy::double, test_accuracy::double, val_loss::double,
                  train_seconds, learning_rate::double
           from curves join trials using (trial_id) where epochs_run = 20 order by epoch"""
    ).rows()
    assert len(rows) == 20
    assert rows[0] == pytest.approx((1, 0.505, 0.505, 0.405, -np.log(1e-7), 2.0, 0.01))
    assert rows[19] == pytest.approx((20, 0.6, 0.6, 0.5, 0.8, 2.0, 0.01))
    trials = corpus.sql("select status, epochs_run, total_seconds, count(*) from trials group by all order by 1").rows()
    assert trials == [("completed", 50, 103.0, 4), ("early_stopped", 20, 43.0, 1)]
    assert corpus.sql("select n_classes, n_samples, n_dims from datasets limit 1").rows() == [(2, 690, None)]
    notes = " ".join(corpus.manifest["imported"]["notes"])
    assert "Dropped from the configs, as they are the same in all: optimizer." in notes
    assert "as they are not part of the published space: mlp_shape." in notes
    assert "5 values of the loss above 16.12" in notes


def test_test_values_are_reported_where_there_are_some(tmp_path: Path, imported: Any) -> None:
    corpus = imported("lcbench", write_file(tmp_path / "data.json", content()))
    evaluation = mq.evaluate(corpus, ["random"], budget=mq.Budget(epochs=60), seeds=1)
    assert evaluation.provenance["splits"] == ["validation", "test"]
    assert evaluation.results["test"].null_count == 0


def test_every_command_works(tmp_path: Path, imported: Any, every_command: Any) -> None:
    every_command(imported("lcbench", write_file(tmp_path / "data.json", content())), "Australian")


def broken(**log: Any) -> dict[str, Any]:
    run = entry()
    run["log"] |= log
    return {"Australian": {"0": run}}


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (broken(epoch=[0, 1, 3]), "must have the epochs from 0 or 1 on"),
        (broken(time=[1.0]), "must have the epochs from 0 or 1 on"),
        (broken(**{"Train/val_cross_entropy": [1.0]}), "has 1 values of Train/val_cross_entropy, expected 52"),
        (broken(**{"Train/lr": ["high"]}), "Train/lr must be a list of numbers"),
        ({"Australian": {"0": entry(learning_rate=1.0)}}, "run 0 of Australian: learning_rate must be"),
        ({"Australian": {"0": {"config": {}}}}, "run 0 of Australian has no 'log'"),
        ({"Australian": {"0": {"config": {}, "log": {}}}}, "needs a number for each of batch_size"),
        ({"Australian": []}, "Australian must hold runs by config id"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path: Path, damaged: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        import_corpus("lcbench", write_file(tmp_path / "data.json", damaged), tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()
