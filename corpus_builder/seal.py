"""From a run directory to a sealed corpus, in a stream: memory holds the trials, and the curves of one fold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from corpus_builder import __version__
from corpus_builder.backbones import member_spec
from corpus_builder.backbones.describe import backbone_row
from corpus_builder.card import corpus_card
from corpus_builder.execute.rundir import DATA_TABLES, RunDirectory
from corpus_builder.plan import Plan, Unit
from corpus_builder.release import Part, Release
from metaquery.errors import InvalidInput
from metaquery.schema import configs_schema, table
from metaquery.schema.predictions import Checkpoint, TrialPredictions
from metaquery.schema.tables import from_rows
from metaquery.schema.writer import Batch, CorpusWriter
from metaquery.space import Config
from metaquery.types import Split


def seal(root: Path, out: Path, *, partial: bool = False, extends: Path | None = None) -> Path:
    """Seal the run at `root` into the corpus directory `out`.

    Refuses a run with unfinished units unless `partial`; then the corpus holds what is finished. With `extends`, the
    path of a corpus, the new one also has all that is in that one, as it is there, but for curves of one that states no
    resolution, which get the present one; see `metaquery.schema.merging` for what may stand together.
    """
    run = RunDirectory.open(root)
    plan = run.plan
    pending = {unit.unit_id for unit in run.pending()}
    finished = [unit for unit in plan.units if unit.unit_id not in pending]
    missing = len(plan.trials) - sum(len(unit.trials) for unit in finished)
    if pending and (not partial or not finished):
        hint = ", or seal what is there with --partial" if finished else ""
        raise InvalidInput(
            f"{missing} of {len(plan.trials)} trials are not run yet: run the plan again to finish{hint}"
        )
    tables = {
        **{name: _data_table(run, finished, name) for name in DATA_TABLES},
        "backbones": _backbones(run, finished),
        "configs": _configs(plan, finished),
    }
    space, what = plan.space, f"the run {root}"
    release = None if extends is None else _release(extends, plan)
    if release is not None:
        tables, space = release.grown(tables, space, what)
    units = _by_part(finished)
    with CorpusWriter(out, space=space, epochs=plan.study.epochs, tables=tables) as writer:
        for part in sorted({*units, *(release.parts if release is not None else ())}):
            dataset, fold = part
            writer.add(dataset, fold, _batches(run, part, units.get(part, []), release, what))
        tables = {**writer.tables, "trials": writer.trials}
        grown = None if release is None else release.extends(tables, space)
        provenance = _provenance(plan, missing, release)
        return writer.seal(
            name=plan.study.name,
            version=plan.study.version,
            builder_version=__version__,
            devices=sorted(set(tables["trials"]["device"].to_pylist())),
            provenance=provenance,
            card=corpus_card(provenance, tables, extends=grown),
            extends=grown,
        )


def _release(root: Path, plan: Plan) -> Release:
    release = Release(root)
    study = plan.study
    if release.title == f"{study.name} {study.version}":
        raise InvalidInput(f"{root} is {release.title} already: give the study another version")
    if release.manifest["epochs"] != study.epochs:
        raise InvalidInput(
            f"{root} has trials of up to {release.manifest['epochs']} epochs, the run of {study.epochs}: full fidelity "
            f"must be the same"
        )
    return release


def _provenance(plan: Plan, unfinished: int, release: Release | None) -> dict[str, Any]:
    provenance: dict[str, Any] = {"study": dict(plan.study.document), "trials_planned": len(plan.trials)}
    if plan.limits:
        provenance["limits"] = plan.limits
        provenance["trials_left_out"] = sum(load.trials for load in plan.left_out.values())
    if unfinished:
        provenance["trials_unfinished"] = unfinished
    if release is not None:
        provenance["earlier"] = release.provenance()
    return provenance


def _by_part(units: list[Unit]) -> dict[Part, list[Unit]]:
    found: dict[Part, list[Unit]] = {}
    for unit in units:
        spec = unit.trials[0].spec
        found.setdefault((spec.dataset, spec.fold), []).append(unit)
    return found


def _data_table(run: RunDirectory, units: list[Unit], name: str) -> pa.Table:
    used = sorted(_by_part(units))
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
    designs: dict[Config, str] = {}
    for trial in (trial for unit in units for trial in unit.trials):
        if designs.get(trial.spec.config) != "grid":  # a config of both designs belongs to the grid
            designs[trial.spec.config] = trial.design
    rows = [
        {"config_id": config.config_id, "design": design, **{name: config.get(name) for name in schema.names[2:]}}
        for config, design in designs.items()
    ]
    return from_rows(schema, rows, what="configs")


def _batches(run: RunDirectory, part: Part, units: list[Unit], release: Release | None, what: str) -> Iterator[Batch]:
    """The trials of one dataset and fold: those of `release`, and those of the run that it does not have."""
    batches = (_batch(run.read_shard(unit)) for unit in units)
    if release is None:
        yield from batches
    else:
        if part in release.parts:
            yield release.batch(part)
        yield from release.without_known(part, batches, what)


def _batch(shard: pa.Table) -> Batch:
    curve = shard["curve"].combine_chunks()
    epochs = curve.flatten()
    names = [field.name for field in epochs.type]
    owner = shard["trial_id"].take(pc.list_parent_indices(curve))
    curves = pa.table([owner, *epochs.flatten()], names=["trial_id", *names])
    return Batch(shard.select(table("trials").arrow_schema().names), curves, _predictions(shard))


def _predictions(shard: pa.Table) -> Iterator[TrialPredictions]:
    items = shard["predictions"].combine_chunks()
    fields = dict(zip((field.name for field in items.type.value_type), items.flatten().flatten(), strict=True))
    values, bounds = fields["probabilities"].values.to_numpy(), fields["probabilities"].offsets.to_numpy()
    kinds = list(zip(*(fields[name].to_pylist() for name in ("checkpoint", "split", "n_classes")), strict=True))
    found: dict[int, dict[Checkpoint, dict[Split, Any]]] = {}
    for item, owner in enumerate(pc.list_parent_indices(items).to_pylist()):
        name, split, n_classes = kinds[item]
        checkpoint = int(name) if name.isdigit() else name
        p = values[bounds[item] : bounds[item + 1]].reshape(-1, n_classes)
        found.setdefault(owner, {}).setdefault(checkpoint, {})[split] = p
    identity = [shard[name].to_pylist() for name in ("trial_id", "dataset", "fold")]
    for owner, checkpoints in found.items():
        trial_id, dataset, fold = (column[owner] for column in identity)
        yield TrialPredictions(trial_id, dataset, fold, checkpoints)
