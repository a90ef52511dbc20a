"""Each law of the tables, broken once: the problem is found, named, and is the only one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from factory import make_content

from metaquery.schema.checks import problems_of_tables, sound_tables
from metaquery.space import Config

Row = dict[str, Any]


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return make_content(datasets=("alpha", "beta"), sobol=1, repeats=1, epochs=9)


def edited(data: pa.Table, edit: Callable[[list[Row]], Any]) -> pa.Table:
    rows = data.to_pylist()
    edit(rows)
    schema = pa.schema([field.with_nullable(True) for field in data.schema])
    return pa.Table.from_pylist(rows, schema=schema)


def problems(content: dict[str, Any], **tables: pa.Table) -> list[str]:
    return problems_of_tables({**content["tables"], **tables}, content["space"], content["epochs"])


def put(row: int, **values: Any) -> Callable[[list[Row]], None]:
    return lambda rows: rows[row].update(values)


def first(status: str, **values: Any) -> Callable[[list[Row]], None]:
    return lambda rows: next(row for row in rows if row["status"] == status).update(values)


def test_a_sound_corpus_has_no_problem(content: dict[str, Any]) -> None:
    assert problems(content) == []


BROKEN: list[tuple[str, Callable[[list[Row]], Any], str]] = [
    (
        "datasets",
        put(0, n_classes=3, task="multiclass"),
        "datasets: class_names does not have n_classes names in alpha",
    ),
    ("datasets", put(0, task="multiclass"), "datasets: task contradicts n_classes in alpha"),
    ("datasets", put(0, shape=[16]), "datasets: shape does not have n_dims numbers in alpha"),
    ("datasets", put(0, oncology="maybe"), "datasets: oncology is 'maybe' in alpha, expected one of"),
    ("datasets", put(0, licence=None), "datasets: column licence must not be null, 1 rows are"),
    ("splits", put(0, label=2), "splits: label is not below n_classes in alpha/0/0"),
    ("splits", lambda rows: rows.append(rows[0]), "splits: duplicate dataset/fold/sample alpha/0/0"),
    ("metafeatures", put(0, dataset="omega"), "metafeatures: dataset omega not in datasets"),
    ("metafeatures", put(0, seconds=-1.0), "metafeatures: seconds is negative or not finite in alpha/0/log_n_train"),
    ("backbones", lambda rows: rows.pop(0), "configs: backbone tiny.scratch not in backbones"),
    ("trials", put(0, status="lost"), "trials: status is 'lost' in"),
    ("trials", first("diverged", error=None), "trials: a failure without a message in error:"),
    ("trials", put(0, error="oops"), "trials: completed, but with an error:"),
    ("trials", put(0, engine="single", fused_width=8), "trials: engine is single, but fused_width is not 1:"),
    ("trials", put(0, total_seconds=float("nan")), "trials: total_seconds is negative or not finite in"),
    ("trials", put(0, epochs_planned=10), "trials: completed, but epochs_run is not epochs_planned:"),
    ("trials", first("diverged", epochs_planned=10), "trials: epochs_planned is not between 1 and the corpus's 9:"),
    ("trials", put(0, seed=1), "trials: several trials of one dataset, fold, config and seed:"),
    ("curves", put(0, val_auc=1.01), "curves: val_auc is outside [0, 1] or NaN in"),
    ("curves", put(0, val_auc=float("nan")), "curves: val_auc is outside [0, 1] or NaN in"),
    ("curves", put(0, test_loss=-0.1), "curves: test_loss is outside [0, 16.1181] or NaN in"),
    ("curves", put(0, train_seconds=float("inf")), "curves: train_seconds is negative or not finite in"),
]


@pytest.mark.parametrize(("table", "edit", "message"), BROKEN, ids=[message for _, _, message in BROKEN])
def test_broken_rows_are_found(
    content: dict[str, Any], table: str, edit: Callable[[list[Row]], Any], message: str
) -> None:
    found = problems(content, **{table: edited(content["tables"][table], edit)})
    assert any(problem.startswith(message) for problem in found), found
    assert len(found) <= 2  # the fault itself and at most one that it implies


def test_group_in_two_roles(content: dict[str, Any]) -> None:
    rows = content["tables"]["splits"].to_pylist()
    other = {"train": "test", "val": "train", "test": "train"}[rows[0]["role"]]
    found = problems(content, splits=edited(content["tables"]["splits"], put(0, role=other)))
    assert found == ["splits: a group has several roles in one fold: alpha/0/p0"]


def test_curves_against_trials(content: dict[str, Any]) -> None:
    curves = content["tables"]["curves"]
    trial_id = curves["trial_id"][0].as_py()
    assert problems(content, curves=edited(curves, lambda rows: rows.pop(3))) == [
        f"curves: trial {trial_id} has 8 rows, but its epochs_run is 9",
        f"curves: epochs are not 1 to n in trial {trial_id}",
    ]
    assert problems(content, curves=edited(curves, lambda rows: rows.pop(8))) == [
        f"curves: trial {trial_id} has 8 rows, but its epochs_run is 9"
    ]
    assert problems(content, curves=edited(curves, put(8, epoch=10))) == [
        f"curves: epochs are not 1 to n in trial {trial_id}"
    ]
    assert problems(content, curves=edited(curves, put(8, epoch=8))) == [
        f"curves: duplicate trial_id/epoch {trial_id}/8",
        f"curves: epochs are not 1 to n in trial {trial_id}",
    ]
    without = edited(curves, lambda rows: [rows.pop(0) for _ in range(9)])
    assert problems(content, curves=without) == [f"curves: trial {trial_id} has 0 rows, but its epochs_run is 9"]
    dangling = edited(curves, put(8, trial_id="f" * 16))
    assert f"curves: trial_id {'f' * 16} not in trials" in problems(content, curves=dangling)


def test_configs_against_the_space(content: dict[str, Any]) -> None:
    configs = content["tables"]["configs"]
    row = configs.to_pylist()[0]

    def hashed(**values: Any) -> Callable[[list[Row]], None]:
        changed = {k: v for k, v in {**row, **values}.items() if v is not None and k not in ("config_id", "design")}
        return put(0, config_id=Config(changed).config_id, **values)

    def problem(edit: Callable[[list[Row]], None]) -> str:
        return next(p for p in problems(content, configs=edited(configs, edit)) if p.startswith("configs"))

    assert problem(put(0, learning_rate=5e-3)).endswith(Config({**_active(row), "learning_rate": 5e-3}).config_id)
    assert "learning_rate must be one of 0.0001, 0.001, 0.01, got 0.005" in problem(hashed(learning_rate=5e-3))
    assert "learning_rate must be a number in [1e-05, 0.1], got 0.5" in problem(hashed(learning_rate=0.5))
    assert "momentum is only active where optimizer is sgd" in problem(hashed(optimizer="adamw"))
    assert "lacks momentum" in problem(hashed(momentum=None))
    assert "expected one of ('grid', 'sobol', 'pool')" in problem(put(0, design="random"))


def _active(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None and name not in ("config_id", "design")}


def test_backbone_of_other_dimensions(content: dict[str, Any]) -> None:
    found = problems(content, datasets=edited(content["tables"]["datasets"], put(0, n_dims=3, shape=[16, 16, 16])))
    assert len(found) == 1
    assert found[0].startswith("trials: the backbone does not take the dataset's dimensions:")


def test_wrong_columns(content: dict[str, Any]) -> None:
    trials = content["tables"]["trials"]
    renamed = trials.rename_columns(["id" if name == "trial_id" else name for name in trials.column_names])
    cast = trials.set_column(trials.column_names.index("seed"), "seed", trials["seed"].cast(pa.int32()))
    assert problems(content, trials=renamed) == [
        "trials: column trial_id is missing",
        "trials: column id is not in the schema",
    ]
    assert problems(content, trials=cast) == ["trials: column seed is int32, expected int64"]
    assert problems(content, trials=trials.append_column("seed", trials["seed"])) == [
        "trials: column seed is there more than once"
    ]
    assert problems(content, extra=trials) == ["extra: not a table of the schema"]


def test_one_broken_table_does_not_hide_the_faults_of_others(content: dict[str, Any]) -> None:
    found = problems(
        content,
        datasets=content["tables"]["datasets"].drop_columns(["title"]),
        curves=edited(content["tables"]["curves"], put(0, val_auc=2.0)),
    )
    assert found[0] == "datasets: column title is missing"
    assert found[1].startswith("curves: val_auc is outside")
    assert len(found) == 2


def test_without_a_space_configs_are_not_checked(content: dict[str, Any]) -> None:
    sound, found = sound_tables(content["tables"], None)
    assert "configs" not in sound
    assert found == []


def test_many_offenders_are_counted_not_listed(content: dict[str, Any]) -> None:
    found = problems(
        content, curves=edited(content["tables"]["curves"], lambda rows: [r.update(val_f1=7) for r in rows])
    )
    assert len(found) == 1
    assert found[0].count("/") == 3
    assert " more" in found[0]
