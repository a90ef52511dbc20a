"""Quick-Tune's meta-dataset: one-hot columns to the conditional space, curves as they ended."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaquery.errors import InvalidData, InvalidInput
from metaquery.importers import import_corpus

COLUMNS = [
    *("cat:model:beit_base", "cat:model:volo_d1", "cat:opt:adam", "cat:opt:momentum", "cat:sched:cosine"),
    *("cat:sched:step", "cat:opt_betas:None", "cat:opt_betas:[0.9, 0.99]"),
    *("amp", "batch_size", "clip_grad", "decay_rate", "linear_probing", "lr", "momentum"),
]
ROWS = {
    "7001": [1, 0, 1, 0, 1, 0, 0, 1, 0, 4, -1.0, 0.1, 0, 0.01, 0.9],
    "7002": [0, 1, 0, 1, 0, 1, 1, 0, 1, 8, 10.0, 0.5, 0, 0.001, 0.99],
    "7003": [0, 1, 0, 1, 1, 0, 1, 0, 1, 16, 1.0, 0.1, 1, 0.001, 0.9],
    "7004": [1, 0, 1, 0, 0, 1, 0, 1, 1, 4, 1.0, 0.1, 0, 0.0001, 0.9],
}
EPOCHS = {"7001": 50, "7002": 3, "7003": 1, "7004": 12}
SECONDS = {"7001": 10.0, "7002": 20_000.0, "7003": 2.0, "7004": 5.0}  # only 7002 would have passed 14 hours


def write_level(path: Path, rows: dict[str, list[Any]] = ROWS, columns: list[str] = COLUMNS) -> Path:
    path.mkdir(exist_ok=True)
    with (path / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["", *columns], *([config_id, *row] for config_id, row in rows.items())])
    datasets = {"ONE": ["7001", "7002"], "TWO": ["7003", "7004"]}
    info = {"info": {"version": "extended"}}
    perf = {d: {i: [10.0 + e for e in range(EPOCHS[i])] for i in ids} for d, ids in datasets.items()}
    cost = {d: {i: [SECONDS[i]] * EPOCHS[i] for i in ids} for d, ids in datasets.items()}
    (path / "perf.json").write_text(json.dumps(perf | info))
    (path / "cost.json").write_text(json.dumps(cost | info))
    (path / "descriptors.json").write_text(json.dumps({"ONE": [900, 2, 128, 3], "TWO": [500, 7, 128, 3]}))
    return path


def test_content(tmp_path: Path, imported: Any) -> None:
    corpus = imported("quicktune", write_level(tmp_path / "level"))
    space = corpus.space
    assert (corpus.epochs, corpus.default_metric) == (50, "accuracy")
    assert space["opt_betas"].choices == ("[0.9, 0.99]",)
    assert space["opt_betas"].condition.values == ("adam",)
    assert space["momentum"].choices == (0.9, 0.99)
    assert space["clip_grad"].choices == ("1", "10", "none")
    assert (space["batch_size"].kind, space["batch_size"].choices) == ("ordinal", (4, 8, 16))
    trials = corpus.sql(
        """select lr, dataset, status, epochs_run, epochs_planned, total_seconds, momentum, decay_rate, design
           from trials join configs using (config_id) order by dataset, lr desc"""
    ).rows()
    assert trials == [
        (0.01, "ONE", "completed", 50, 50, 500.0, None, None, "pool"),
        (0.001, "ONE", "timed_out", 3, 50, 60_000.0, 0.99, 0.5, "pool"),
        (0.001, "TWO", "early_stopped", 1, 50, 2.0, 0.9, None, "pool"),
        (0.0001, "TWO", "early_stopped", 12, 50, 60.0, None, 0.1, "pool"),
    ]
    curve = corpus.sql(
        """select epoch, val_accuracy, train_seconds, eval_seconds, test_accuracy, learning_rate
           from curves join trials using (trial_id) where status = 'timed_out' order by epoch"""
    ).rows()
    assert curve == [(e, pytest.approx(0.09 + 0.01 * e), 20_000.0, None, None, None) for e in (1, 2, 3)]
    assert corpus.sql("select dataset, n_classes, task, n_samples, shape from datasets order by 1").rows() == [
        ("ONE", 2, "binary", None, [128, 128]),
        ("TWO", 7, "multiclass", None, [128, 128]),
    ]
    assert corpus.sql("select value from metafeatures where dataset = 'TWO' and name = 'n_train'").rows() == [(500.0,)]
    assert corpus.sql("select count(*) from splits").rows() == [(0,)]
    notes = " ".join(corpus.manifest["imported"]["notes"])
    assert "4 trials on 2 datasets, 66 epochs: 2 early stopped, 1 completed, 1 timed out." in notes
    assert "All 1 run with linear_probing end after epoch 1" in notes
    assert "no test values" in notes


def test_every_command_works(tmp_path: Path, imported: Any, every_command: Any) -> None:
    every_command(imported("quicktune", write_level(tmp_path / "level")), "ONE")


def test_same_files_same_bytes(tmp_path: Path) -> None:
    level = write_level(tmp_path / "level")
    for name in ("a", "b"):
        import_corpus("quicktune", level, tmp_path / name)
    assert (tmp_path / "a" / "corpus.json").read_bytes() == (tmp_path / "b" / "corpus.json").read_bytes()


def test_the_other_spelling_of_one_hot_columns(tmp_path: Path, imported: Any) -> None:
    columns = [name.replace(":", "__") for name in COLUMNS]
    corpus = imported("quicktune", write_level(tmp_path / "level", columns=columns))
    assert corpus.space["backbone"].choices == ("beit_base", "volo_d1")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("momentum", 0.5, "momentum 0.5 though opt is adam: expected the placeholder 0.9"),
        ("cat:opt:momentum", 1, "the columns of opt are not one-hot in every row"),
    ],
)
def test_rows_that_break_the_rules_are_refused(tmp_path: Path, column: str, value: float, message: str) -> None:
    row = list(ROWS["7001"])
    row[COLUMNS.index(column)] = value
    level = write_level(tmp_path / "level", ROWS | {"7001": row})
    with pytest.raises(InvalidData, match=message):
        import_corpus("quicktune", level, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    level = write_level(tmp_path / "level", {k: v for k, v in ROWS.items() if k != "7004"})
    with pytest.raises(InvalidData, match=r"run 7004 of TWO is in perf.json but not in table.csv"):
        import_corpus("quicktune", level, tmp_path / "corpus")
    write_level(level)
    cost = json.loads((level / "cost.json").read_text())
    cost["ONE"]["7001"].pop()
    (level / "cost.json").write_text(json.dumps(cost))
    with pytest.raises(InvalidData, match=r"run 7001 of ONE has 50 epochs in perf.json"):
        import_corpus("quicktune", level, tmp_path / "corpus")
    (level / "descriptors.json").unlink()
    with pytest.raises(InvalidInput, match=r"has no file descriptors.json"):
        import_corpus("quicktune", level, tmp_path / "corpus")


def test_the_real_level(curves_root: Path, imported: Any) -> None:
    """All 26 datasets and 4,665 runs; every config and curve as in the table that was decoded independently."""
    files = curves_root / "quicktune_metadataset"
    corpus = imported("quicktune", files / "extended")
    assert len(corpus.datasets) == 26
    found = corpus.sql(
        """select dataset, epochs_run, backbone, opt, coalesce(opt_betas, 'None'), sched, lr, batch_size, weight_decay,
                  case when data_augmentation = 'none' then 'None' else data_augmentation end, coalesce(momentum, 0.9),
                  coalesce(decay_rate, 0.1), coalesce(patience_epochs, 10), coalesce(ra_magnitude, 8), stoch_norm
           from trials join configs using (config_id)"""
    ).rows()
    names = ("dataset", "n_epochs", "model", "opt", "opt_betas", "sched", "lr", "batch_size", "weight_decay")
    names += ("data_augmentation", "momentum", "decay_rate", "patience_epochs", "ra_magnitude", "stoch_norm")
    with (files / "extended_runs_decoded.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = Counter(tuple(_number(row[name]) for name in names) for row in rows)
    assert len(rows) == 4665
    assert Counter(tuple(_number(value) for value in row) for row in found) == expected
    best = corpus.sql(
        """select dataset, max(val_accuracy)::double b from curves join trials using (trial_id)
           group by trial_id, dataset"""
    ).rows()
    stated = sorted((row["dataset"], float(row["best_acc"]) / 100) for row in rows)
    np.testing.assert_allclose([b for _, b in sorted(best)], [b for _, b in stated], atol=1e-7)
    statuses = dict(corpus.sql("select status, count(*) from trials group by 1").rows())
    assert statuses == {"completed": 2519, "early_stopped": 1615, "timed_out": 531}
    assert corpus.sql("select count(*) from curves").rows() == [(140_317,)]
    bench = corpus.benchmark("PNU")
    assert (bench.metric.name, bench.epochs, len(bench.configs or ())) == ("accuracy", 50, 195)


def _number(value: Any) -> Any:
    try:
        return float(value)
    except ValueError:
        return value or "None"
