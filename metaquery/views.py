"""Ready SQL views over the tables of a corpus, the same over one corpus and over several.

Beside one view for each table:

    best_epoch       one row per trial with an epoch: the one that is best on validation, with its test values
    final            one row per trial with an epoch: the last one
    learning_curves  every epoch, with its trial, config, dataset and backbone
    failures         the trials that did not end as they should
    cost_per_trial   where the seconds of every trial went
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from metaquery.metrics import Metric
from metaquery.schema.tables import TABLE_NAMES
from metaquery.types import SOUND

NEEDS = {
    "best_epoch": ("trials", "curves"),
    "final": ("trials", "curves"),
    "learning_curves": ("curves", "trials", "configs", "datasets", "backbones"),
    "failures": ("trials", "configs"),
    "cost_per_trial": ("trials", "configs", "curves"),
}
"""The tables that each view reads."""

_OF_TRIAL = ("dataset", "fold", "config_id", "seed", "status")
_OF_DATASET = ("modality", "body_part", "oncology", "task", "n_classes", "n_dims", "n_samples")
_OF_BACKBONE = ("parameters", "flops", "pretrained_on")


def ready_views(metric: Metric, columns: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The query behind each view whose tables are among `columns`, the names of the columns of every table.

    `metric` decides which epoch is best: the one with the best validation value, the first on ties; an undefined value
    is the worst.
    """
    config = _selected(columns, "configs", ("backbone",), "c")
    queries = {
        "best_epoch": _best_epoch(metric),
        "final": f"""
            SELECT {_named("t", _OF_TRIAL)}, e.*
            FROM curves e JOIN trials t USING (trial_id)
            SEMI JOIN (SELECT trial_id, max(epoch) AS epoch FROM curves GROUP BY trial_id) USING (trial_id, epoch)""",
        "learning_curves": _learning_curves(columns),
        "failures": f"""
            SELECT trial_id, {_named("t", _OF_TRIAL)}{config}, t.error, t.epochs_planned, t.epochs_run, t.total_seconds
            FROM trials t JOIN configs c USING (config_id)
            WHERE t.status NOT IN ({", ".join(f"'{status}'" for status in SOUND)})""",
        "cost_per_trial": f"""
            SELECT trial_id, {_named("t", _OF_TRIAL)}{config}, t.epochs_run,
                   coalesce(e.train, 0.0) AS train_seconds, coalesce(e.eval, 0.0) AS eval_seconds,
                   if(t.total_seconds < e.train + e.eval, 0.0, t.total_seconds - train_seconds - eval_seconds)
                       AS other_seconds, t.total_seconds,
                   (train_seconds + eval_seconds) / nullif(t.epochs_run, 0) AS seconds_per_epoch,
                   t.cost_source, t.device
            FROM trials t JOIN configs c USING (config_id) LEFT JOIN (
                SELECT trial_id, sum(train_seconds::DOUBLE) AS train, sum(eval_seconds::DOUBLE) AS eval
                FROM curves GROUP BY trial_id) e USING (trial_id)""",
    }
    return {name: query for name, query in queries.items() if all(table in columns for table in NEEDS[name])}


def tables_of(query: str) -> list[str]:
    """The tables that `query` names, itself or through a view."""
    words = set(re.findall(r"\w+", query.lower()))
    return [table for name in (*TABLE_NAMES, *NEEDS) if name in words for table in NEEDS.get(name, (name,))]


def _best_epoch(metric: Metric) -> str:
    value = f"val_{metric.name}"
    if metric.direction == "maximize":
        best, worst, later, order = "arg_max", "-inf", "-epoch", "DESC"
    else:
        best, worst, later, order = "arg_min", "inf", "epoch", "ASC"
    return f"""
        SELECT {_named("t", _OF_TRIAL)}, '{metric.name}' AS metric, e.{value} AS val, e.test_{metric.name} AS test,
               rank() OVER (PARTITION BY t.dataset, t.fold ORDER BY e.{value} {order} NULLS LAST) AS rank, e.*
        FROM curves e JOIN trials t USING (trial_id)
        SEMI JOIN (
            SELECT trial_id, {best}(epoch, {{'value': coalesce({value}, '{worst}'), 'first': {later}}}) AS epoch
            FROM curves GROUP BY trial_id) USING (trial_id, epoch)"""


def _learning_curves(columns: Mapping[str, Sequence[str]]) -> str:
    if not {"configs", "trials", "curves"} <= columns.keys():
        return ""
    taken = {"trial_id", "config_id", *columns["curves"], *columns["trials"], *_OF_DATASET, *_OF_BACKBONE}
    hyperparameters = "".join(
        f', c."{name}"' + (f' AS "config_{name}"' if name in taken else "")
        for name in columns["configs"]
        if name != "config_id"
    )
    backbones = backbone = ""
    if "backbone" in columns["configs"]:
        backbone = f", {_named('b', _OF_BACKBONE)}, b.family AS backbone_family"
        backbones = " LEFT JOIN backbones b ON b.backbone = c.backbone"
    return f"""
        SELECT e.*, t.* EXCLUDE (trial_id){hyperparameters}, {_named("d", _OF_DATASET)},
               d.family AS dataset_family{backbone}
        FROM curves e JOIN trials t USING (trial_id) JOIN configs c USING (config_id)
             JOIN datasets d USING (dataset){backbones}"""


def _named(table: str, columns: Sequence[str]) -> str:
    return ", ".join(f"{table}.{column}" for column in columns)


def _selected(columns: Mapping[str, Sequence[str]], table: str, wanted: Sequence[str], alias: str) -> str:
    """Those of `wanted` that the table has, each after a comma."""
    return "".join(f", {alias}.{column}" for column in wanted if column in columns.get(table, ()))
