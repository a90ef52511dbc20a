"""Any long table through a mapping: a user's own logs as a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import metaquery as mq
from metaquery.errors import InvalidInput
from metaquery.importers import import_corpus

RUNS = [  # site, seed, lr, opt, beta, layers, epochs
    ("here", 0, 0.01, "adam", 0.9, 2, 4),
    ("here", 1, 0.01, "adam", 0.9, 2, 4),
    ("here", 0, 0.1, "sgd", None, 3, 2),
    ("there", 0, 0.001, "adam", 0.99, 2, 4),
    ("there", 0, 0.01, "sgd", None, 5, 4),
]
MAPPING: dict[str, Any] = {
    "name": "mine",
    "file": "logs.csv",
    "first_epoch": 0,
    "columns": {"dataset": "site", "seed": "seed", "epoch": "step", "train_seconds": "sec"},
    "metrics": {"val_auc": "auc", "val_accuracy": {"column": "acc", "scale": 0.01}},
    "hyperparameters": {
        "learning_rate": {"column": "lr", "log": True, "default": 0.01},
        "opt": {},
        "beta": {"condition": {"parent": "opt", "values": ["adam"]}},
        "layers": {"kind": "ordinal"},
    },
    "datasets": {"here": {"n_classes": 3, "task": "multiclass", "modality": "CT", "metafeatures": {"n_train": 80}}},
}


def logs() -> pl.DataFrame:
    names = ("site", "seed", "lr", "opt", "beta", "layers")
    return pl.DataFrame(
        [
            dict(zip(names, run[:-1], strict=True))
            | {"step": step, "auc": 0.5 + 0.05 * step + 0.01 * i, "acc": 50.0 + step, "sec": 2.0, "host": "a"}
            for i, run in enumerate(RUNS)
            for step in range(-1, run[-1])
        ]
    )


def write_table(path: Path, mapping: dict[str, Any] = MAPPING, data: pl.DataFrame | None = None) -> Path:
    path.mkdir(exist_ok=True)
    table = logs() if data is None else data
    file = path / mapping["file"]
    table.write_parquet(file) if file.suffix == ".parquet" else table.sample(
        fraction=1.0, shuffle=True, seed=1
    ).write_csv(file)
    (path / "mapping.yaml").write_text(yaml.safe_dump(mapping, sort_keys=False))
    return path / "mapping.yaml"


@pytest.mark.parametrize("file", ["logs.csv", "logs.parquet"])
def test_content(tmp_path: Path, imported: Any, file: str) -> None:
    corpus: mq.Corpus = imported("table", write_table(tmp_path / "logs", MAPPING | {"file": file}))
    assert (corpus.name, corpus.epochs, corpus.default_metric) == ("mine", 4, "auc")
    rate = corpus.space["learning_rate"]
    assert (rate.kind, rate.low, rate.high, rate.log, rate.default) == ("float", 0.001, 0.1, True, 0.01)
    assert corpus.space["layers"].choices == (2, 3, 5)
    trials = corpus.sql(
        """select dataset, seed, learning_rate, opt, beta, layers, status, epochs_run, total_seconds
           from trials join configs using (config_id) order by all"""
    ).rows()
    expected = [
        (site, seed, lr, opt, beta, layers, "completed" if n == 4 else "early_stopped", n, 2.0 * n)
        for site, seed, lr, opt, beta, layers, n in RUNS
    ]
    assert trials == sorted(expected, key=str)
    curve = corpus.sql(
        """select epoch, val_auc::double, val_accuracy::double from curves join trials using (trial_id)
           where epochs_run = 2 order by 1"""
    ).rows()
    assert curve == [(1, pytest.approx(0.52), pytest.approx(0.5)), (2, pytest.approx(0.57), pytest.approx(0.51))]
    assert corpus.sql("select n_classes, modality, title, family from datasets where dataset = 'here'").rows() == [
        (3, "CT", "here", "here")
    ]
    assert corpus.sql("select value from metafeatures").rows() == [(80.0,)]
    notes = corpus.manifest["imported"]["notes"]
    assert "5 rows before the first trained epoch, 0, were dropped." in notes
    assert "Columns that the mapping does not name were dropped: host." in notes


def test_every_command_works(tmp_path: Path, imported: Any, every_command: Any) -> None:
    every_command(imported("table", write_table(tmp_path / "logs")), "there")


def test_status_error_and_elapsed_time(tmp_path: Path, imported: Any) -> None:
    data = logs().with_columns(
        pl.when(pl.col("opt") == "sgd").then(pl.lit("diverged")).otherwise(pl.lit("completed")).alias("end"),
        clock=10.0 + 2.0 * pl.col("step"),
    )
    columns = {"dataset": "site", "seed": "seed", "epoch": "step", "status": "end", "elapsed_seconds": "clock"}
    corpus = imported("table", write_table(tmp_path / "logs", MAPPING | {"columns": columns}, data))
    assert corpus.sql("select status, error, epochs_run, total_seconds from trials order by all").rows()[3:] == [
        ("diverged", "diverged in the source", 2, 12.0),
        ("diverged", "diverged in the source", 4, 16.0),
    ]
    assert corpus.sql("select epoch, train_seconds from curves order by all limit 6").rows()[4:] == [
        (1, 10.0),
        (2, 2.0),
    ]


def test_without_costs_only_epochs_and_trials_are_budgets(tmp_path: Path, imported: Any) -> None:
    columns = {"dataset": "site", "seed": "seed", "epoch": "step"}
    corpus = imported("table", write_table(tmp_path / "logs", MAPPING | {"columns": columns}))
    bench = corpus.benchmark("here")
    assert not bench.has_costs
    with pytest.raises(InvalidInput, match="here has no costs in this corpus, so a budget in seconds means nothing"):
        mq.run(mq.optimizer("random"), bench, mq.Budget(seconds=10))
    trajectory = mq.run(mq.optimizer("random"), bench, mq.Budget(epochs=4))
    assert "one second for every epoch" in trajectory.stamp["clock"]
    assert trajectory.clock_seconds == trajectory.epochs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": {"val_rank": "auc"}}, r"does not follow import_mapping.schema.json: metrics"),
        ({"metrics": {"val_auc": "AUC"}}, "lacks the columns AUC: it has site"),
        ({"file": "other.csv"}, "has no file other.csv"),
        ({"dataset": "x"}, "give either the name of the one dataset, or columns.dataset"),
        ({"first_epoch": 1}, None),
        ({"first_epoch": 9}, "has no row with step 9 or above"),
        ({"columns": MAPPING["columns"] | {"elapsed_seconds": "sec"}}, "train_seconds or columns.elapsed_seconds"),
        ({"columns": {"dataset": "site", "epoch": "step"}}, "map columns.seed or columns.fold"),
        ({"hyperparameters": {"opt": {}, "beta": {}}}, "column beta has empty cells, so it needs a condition"),
        ({"hyperparameters": {"layers": {"log": True}, "acc": {"log": True}}}, "must have the epochs 1 to"),
        ({"hyperparameters": {"seed": {"log": True}}}, "a logarithmic range needs numbers above 0"),
        ({"datasets": {"nowhere": {}}}, "describes datasets that are not in logs.csv: nowhere"),
        ({"datasets": {"here": {"colour": "red"}}}, "dataset here has unknown columns colour"),
        ({"metrics": {"val_auc": "acc"}}, "val_auc is outside"),
        ({"columns": MAPPING["columns"] | {"status": "host"}}, "has the status a: expected one of completed"),
        ({"columns": MAPPING["columns"] | {"train_loss": "host"}}, "column host must hold numbers"),
    ],
)
def test_mappings_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], message: str | None) -> None:
    mapping = MAPPING | changes
    path = write_table(tmp_path / "logs", mapping | {"file": "logs.csv"})
    path.write_text(yaml.safe_dump(mapping, sort_keys=False))
    if message is None:
        import_corpus("table", path, tmp_path / "corpus")  # one epoch less, as the first counts as before training
        assert mq.open(tmp_path / "corpus").epochs == 3
        return
    with pytest.raises(InvalidInput, match=message):
        import_corpus("table", path, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_what_is_no_mapping_is_refused(tmp_path: Path) -> None:
    for text in ("[1, 2]", "a: [", "name: x"):
        (tmp_path / "mapping.yaml").write_text(text)
        with pytest.raises(InvalidInput, match=r"mapping.yaml"):
            import_corpus("table", tmp_path / "mapping.yaml", tmp_path / "corpus")
