"""From a study to its trials: designs, identities and work units, as one Parquet file."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus_builder.backbones import member_spec
from corpus_builder.backbones.sizes import check_size
from corpus_builder.datasets import Card, dataset_key
from corpus_builder.files import replace_file
from corpus_builder.space import search_space
from corpus_builder.study import Study
from corpus_builder.train.records import TrialSpec
from metaquery.errors import InvalidInput
from metaquery.space import Config, SearchSpace, content_id

_SCHEMA = pa.schema(
    [
        pa.field("unit", pa.string(), nullable=False),
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("dataset_key", pa.string(), nullable=False),
        pa.field("fold", pa.int32(), nullable=False),
        pa.field("config_id", pa.string(), nullable=False),
        pa.field("config", pa.string(), nullable=False),
        pa.field("design", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("epochs", pa.int32(), nullable=False),
        pa.field("time_limit_seconds", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """A trial and the design that asked for it."""

    spec: TrialSpec
    design: str


@dataclass(frozen=True, slots=True)
class Unit:
    """Trials of one dataset, fold and backbone that are run and stored together."""

    unit_id: str
    trials: tuple[PlannedTrial, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Every unit of work of a study, ordered so that a run that stops anywhere has covered all cells alike."""

    study: Study
    units: tuple[Unit, ...]

    @property
    def trials(self) -> list[PlannedTrial]:
        """All trials, in order."""
        return [trial for unit in self.units for trial in unit.trials]

    @property
    def space(self) -> SearchSpace:
        """The search space of the study's backbones."""
        return search_space(self.study.backbones)


def make_plan(study: Study) -> Plan:
    """All trials of `study`: each dataset x fold x seed with the configs of its designs.

    Raises InvalidInput for a backbone that does not take images of the study's size.
    """
    for size, names in {study.size(card): study.backbones_for(card) for card in study.cards}.items():
        for name in names:
            check_size(member_spec(name), size)
    cells: dict[tuple[str, int, str], list[PlannedTrial]] = defaultdict(list)
    for card in study.cards:
        key = dataset_key(card, study.size(card), study.caps)
        for design, config in _configs(study, card):
            for fold in study.folds:
                for seed in study.seeds:
                    spec = TrialSpec(card.name, key, fold, config, seed, study.epochs, study.time_limit_seconds)
                    cells[card.name, fold, str(config["backbone"])].append(PlannedTrial(spec, design))
    columns = [list(_units(trials, study.trials_per_unit)) for trials in cells.values()]
    rounds = chain.from_iterable(zip_longest(*columns))
    return Plan(study, tuple(unit for unit in rounds if unit is not None))


def _configs(study: Study, card: Card) -> Iterable[tuple[str, Config]]:
    space = search_space(study.backbones_for(card))
    designs = study.document["designs"]
    seen: set[Config] = set()
    if "grid" in designs:
        for config in space.grid():
            seen.add(config)
            yield "grid", config
    if "sobol" in designs:
        from scipy.stats import qmc

        seed = int(content_id([card.name, "sobol"]), 16) % 2**32
        points = qmc.Sobol(len(space.hyperparameters), scramble=True, rng=np.random.default_rng(seed))
        count = int(designs["sobol"])
        for point in points.random_base2((count - 1).bit_length())[:count]:
            config = space.from_unit(point)
            if config not in seen:
                seen.add(config)
                yield "sobol", config


def _units(trials: list[PlannedTrial], size: int) -> Iterable[Unit]:
    for start in range(0, len(trials), size):
        chunk = tuple(trials[start : start + size])
        yield Unit(content_id([trial.spec.trial_id for trial in chunk]), chunk)


def write_plan(plan: Plan, path: Path) -> None:
    """Write `plan` as Parquet, with its study in the file's metadata."""
    rows = [
        {
            "unit": unit.unit_id,
            "trial_id": trial.spec.trial_id,
            "dataset": trial.spec.dataset,
            "dataset_key": trial.spec.dataset_key,
            "fold": trial.spec.fold,
            "config_id": trial.spec.config.config_id,
            "config": json.dumps(dict(trial.spec.config)),
            "design": trial.design,
            "seed": trial.spec.seed,
            "epochs": trial.spec.epochs,
            "time_limit_seconds": trial.spec.time_limit_seconds,
        }
        for unit in plan.units
        for trial in unit.trials
    ]
    schema = _SCHEMA.with_metadata({"medcurves.study": json.dumps(plan.study.document)})
    with replace_file(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), partial)


def read_plan(path: Path) -> Plan:
    """Read a plan back; InvalidInput when `path` is not one or no longer means what it meant when it was made."""
    try:
        table = pq.read_table(path)
        document = json.loads(table.schema.metadata[b"medcurves.study"])
        if table.schema.remove_metadata() != _SCHEMA:
            raise KeyError("columns")
    except OSError as error:
        raise InvalidInput(f"cannot read the plan {path}: {error.strerror or 'no such file'}") from None
    except (pa.ArrowException, KeyError, TypeError, ValueError):
        raise InvalidInput(
            f"{path} is not a plan: make one with  corpus-builder plan STUDY.yaml --out PLAN.parquet"
        ) from None
    study = Study.from_document(document, what=f"the study in {path}")
    space = search_space(study.backbones)
    keys = {card.name: dataset_key(card, study.size(card), study.caps) for card in study.cards}
    units: dict[str, list[PlannedTrial]] = defaultdict(list)
    for row in table.to_pylist():
        if keys.get(row["dataset"]) != row["dataset_key"]:
            raise InvalidInput(f"the card of {row['dataset']} changed since {path} was made: plan again")
        config = space.config(json.loads(row["config"]))
        spec = TrialSpec(
            row["dataset"],
            row["dataset_key"],
            row["fold"],
            config,
            row["seed"],
            row["epochs"],
            row["time_limit_seconds"],
        )
        if spec.trial_id != row["trial_id"]:
            raise InvalidInput(f"trial {row['trial_id']} of {path} is not what its columns say: plan again")
        units[row["unit"]].append(PlannedTrial(spec, row["design"]))
    return Plan(study, tuple(Unit(unit_id, tuple(trials)) for unit_id, trials in units.items()))
