"""From a run directory to a sealed corpus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from corpus_builder import __version__
from corpus_builder.backbones import member_spec
from corpus_builder.backbones.describe import backbone_row
from corpus_builder.card import corpus_card
from corpus_builder.execute.rundir import DATA_TABLES, RunDirectory
from corpus_builder.plan import Plan, Unit
from metaquery.errors import InvalidInput
from metaquery.schema import configs_schema, table
from metaquery.schema.predictions import Checkpoint, TrialPredictions
from metaquery.schema.tables import from_rows
from metaquery.schema.writer import write_corpus
from metaquery.types import Split


def seal(root: Path, out: Path, *, partial: bool = False) -> Path:
    """Seal the run at `root` into the corpus directory `out`.

    Refuses a run with unfinished units unless `partial`; then the corpus holds what is finished.
    """
    run = RunDirectory.open(root)
    plan = run.plan
    pending = {unit.unit_id for unit in run.pending()}
    finished = [unit for unit in plan.units if unit.unit_id not in pending]
    if pending and (not partial or not finished):
        missing = len(plan.trials) - sum(len(unit.trials) for unit in finished)
        hint = ", or seal what is there with --partial" if finished else ""
        raise InvalidInput(
            f"{missing} of {len(plan.trials)} trials are not run yet: run the plan again to finish{hint}"
        )
    trials, curves = _trials_and_curves(run, finished)
    tables = {
        **{name: _data_table(run, finished, name) for name in DATA_TABLES},
        "backbones": _backbones(run, finished),
        "configs": _configs(plan, finished),
        "trials": trials,
        "curves": curves,
    }
    return write_corpus(
        out,
        name=plan.study.name,
        version=plan.study.version,
        builder_version=__version__,
        epochs=plan.study.epochs,
        space=plan.space,
        tables=tables,
        predictions=_predictions(run, finished),
        devices=sorted(set(trials["device"].to_pylist())),
        provenance={"study": dict(plan.study.document), "trials_planned": len(plan.trials)},
        card=corpus_card(plan.study.document, tables),
    )


def _data_table(run: RunDirectory, units: list[Unit], name: str) -> pa.Table:
    used = sorted({(unit.trials[0].spec.dataset, unit.trials[0].spec.fold) for unit in units})
    if name == "datasets":  # the same row for every fold
        used = list({dataset: (dataset, fold) for dataset, fold in reversed(used)}.values())
    return pa.concat_tables([run.read_data(dataset, fold, name) for dataset, fold in sorted(used)])


def _backbones(run: RunDirectory, units: list[Unit]) -> pa.Table:
    study, hashes = run.plan.study, run.weights()
    sizes = {card.n_dims: study.size(card) for card in study.cards}
    used = {str(trial.spec.config["backbone"]) for unit in units for trial in unit.trials}
    rows = [backbone_row(name, sizes[member_spec(name).n_dims]) for name in sorted(used)]
    for row in rows:
        row["weights_sha256"] = row["weights_sha256"] or hashes.get(row["backbone"])
    return from_rows(table("backbones").arrow_schema(), rows, what="backbones")


def _configs(plan: Plan, units: list[Unit]) -> pa.Table:
    schema = configs_schema(plan.space)
    rows: dict[str, dict[str, Any]] = {}
    for trial in (trial for unit in units for trial in unit.trials):
        config = trial.spec.config
        values = {name: config.get(name) for name in schema.names[2:]}
        row = {"config_id": config.config_id, "design": trial.design, **values}
        if rows.setdefault(config.config_id, row)["design"] == "sobol":
            rows[config.config_id] = row  # a config of both designs belongs to the grid
    return from_rows(schema, list(rows.values()), what="configs")


def _trials_and_curves(run: RunDirectory, units: list[Unit]) -> tuple[pa.Table, pa.Table]:
    trials, curves = [], []
    names = table("trials").arrow_schema().names
    for unit in units:
        shard = run.read_shard(unit, [*names, "curve"])
        trials.append(shard.select(names))
        for trial_id, curve in zip(shard["trial_id"].to_pylist(), shard["curve"].to_pylist(), strict=True):
            curves += [{"trial_id": trial_id, **epoch} for epoch in curve]
    return pa.concat_tables(trials), from_rows(table("curves").arrow_schema(), curves, what="curves")


def _predictions(run: RunDirectory, units: list[Unit]) -> Iterator[TrialPredictions]:
    for unit in units:
        shard = run.read_shard(unit, ["dataset", "fold", "predictions"])
        for row in shard.to_pylist():
            checkpoints: dict[Checkpoint, dict[Split, Any]] = {}
            for item in row["predictions"]:
                checkpoint = int(item["checkpoint"]) if item["checkpoint"].isdigit() else item["checkpoint"]
                values = np.asarray(item["probabilities"], dtype=np.float32).reshape(-1, item["n_classes"])
                checkpoints.setdefault(checkpoint, {})[item["split"]] = values
            if checkpoints:
                yield TrialPredictions(row["trial_id"], row["dataset"], row["fold"], checkpoints)
