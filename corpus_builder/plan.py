"""From a study to its trials: designs, identities and work units, as one Parquet file."""

from __future__ import annotations

import heapq
import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, zip_longest
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from corpus_builder.backbones import member_spec
from corpus_builder.backbones.sizes import check_size
from corpus_builder.datasets import dataset_key
from corpus_builder.designs import cells
from corpus_builder.files import replace_file
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
        pa.field("predicted_seconds", pa.float64()),
    ]
)
_UNIT_AXES = ("batch_size", "freeze")  # besides dataset, fold and backbone: what the trials of a unit have in common
_STUDY, _LIMITS = "medcurves.study", "medcurves.limits"  # in the metadata of the file


Cell = tuple[str, str]  # dataset, backbone


class Load(NamedTuple):
    """A number of trials and their predicted cost, None where nothing predicts it."""

    trials: int = 0
    seconds: float | None = 0.0


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """A trial, the design that asked for it, and what it will probably cost, which is no part of what it is."""

    spec: TrialSpec
    design: str
    predicted_seconds: float | None = field(default=None, compare=False)

    @property
    def cell(self) -> Cell:
        """Dataset and backbone."""
        return self.spec.dataset, str(self.spec.config["backbone"])


CostModel = Callable[[TrialSpec], float]  # seconds of the whole trial on one device


@dataclass(frozen=True, slots=True)
class Unit:
    """Trials of one dataset, fold, backbone, batch size and share of frozen stages, run and stored together."""

    unit_id: str
    trials: tuple[PlannedTrial, ...]

    @classmethod
    def of(cls, trials: Sequence[PlannedTrial]) -> Unit:
        """The unit of `trials`, named by their content."""
        return cls(content_id([trial.spec.trial_id for trial in trials]), tuple(trials))


@dataclass(frozen=True, slots=True)
class Plan:
    """Units of work of a study, ordered so that a run that stops anywhere has covered all cells alike.

    `left_out` are the trials of the study that its budget has no room for, or that take longer than `longest_seconds`:
    how many of which cell, and their cost.
    """

    study: Study
    units: tuple[Unit, ...]
    budget_seconds: float | None = None
    longest_seconds: float | None = None
    left_out: Mapping[Cell, Load] = field(default_factory=dict)

    @property
    def trials(self) -> list[PlannedTrial]:
        """All trials, in order."""
        return [trial for unit in self.units for trial in unit.trials]

    @property
    def space(self) -> SearchSpace:
        """The search space of the study's backbones."""
        return self.study.space

    @property
    def limits(self) -> list[str]:
        """What may have left trials out, in words."""
        budget, longest = self.budget_seconds, self.longest_seconds
        return [
            *([] if budget is None else [f"the budget of {budget / 3600:g} hours"]),
            *([] if longest is None else [f"the limit of {longest:g} s a trial"]),
        ]


def make_plan(
    study: Study,
    cost: CostModel | None = None,
    budget_seconds: float | None = None,
    longest_seconds: float | None = None,
) -> Plan:
    """The trials of `study`, with what `cost` predicts: those of at most `longest_seconds` each and the cheapest one of
    every dataset and backbone, and with a budget those that `within` keeps of them.

    Raises InvalidInput for a backbone that does not take images of the study's size, and for a budget that is too small
    for one trial.
    """
    trials = study_trials(study, cost)
    short = trials if longest_seconds is None else _short(trials, longest_seconds)
    kept = short if budget_seconds is None else within(short, budget_seconds)
    chosen = {trial.spec.trial_id for trial in kept}
    left = loads(trial for trial in trials if trial.spec.trial_id not in chosen)
    return Plan(study, tuple(_units(kept, study.trials_per_unit)), budget_seconds, longest_seconds, left)


def _short(trials: Sequence[PlannedTrial], longest_seconds: float) -> list[PlannedTrial]:
    """Those of `trials` that take at most `longest_seconds`, and the first of the cheapest ones of every cell."""
    seconds = predicted(trials)
    cheapest: dict[Cell, tuple[float, int]] = {}
    for index, (trial, one) in enumerate(zip(trials, seconds, strict=True)):
        cheapest[trial.cell] = min((one, index), cheapest.get(trial.cell, (one, index)))
    kept = {index for _, index in cheapest.values()}
    return [trial for index, trial in enumerate(trials) if seconds[index] <= longest_seconds or index in kept]


def predicted(trials: Sequence[PlannedTrial]) -> list[float]:
    """What each of `trials` will probably cost; InvalidInput where nothing predicts it."""
    seconds = [trial.predicted_seconds for trial in trials if trial.predicted_seconds is not None]
    if len(seconds) < len(trials):
        raise InvalidInput("a limit of time needs predicted costs: give a cost model")
    return seconds


def loads(trials: Iterable[PlannedTrial]) -> dict[Cell, Load]:
    """How many of `trials` each cell has, and their cost."""
    found: dict[Cell, Load] = {}
    for trial in trials:
        count, seconds = found.get(trial.cell, Load())
        known = None if seconds is None or trial.predicted_seconds is None else seconds + trial.predicted_seconds
        found[trial.cell] = Load(count + 1, known)
    return found


def summary(plan: Plan) -> tuple[list[dict[str, str | int]], list[str]]:
    """One row per dataset and backbone, what is kept and what is left; and in lines the totals, and how many datasets
    and backbones the budget has no trial for."""
    kept = loads(plan.trials)
    rows: list[dict[str, str | int]] = []
    for cell in sorted({*kept, *plan.left_out}):
        row: dict[str, str | int] = {"dataset": cell[0], "backbone": cell[1], "trials": kept.get(cell, Load()).trials}
        if plan.limits:
            row["left out"] = plan.left_out.get(cell, Load()).trials
        rows.append({**row, "hours": _hours([kept.get(cell, Load())])})
    lines = [
        f"{len(plan.trials)} trials of {plan.study.epochs} epochs in {len(plan.units)} units, "
        f"{_hours(kept.values())} hours"
    ]
    if plan.limits:
        left = sum(load.trials for load in plan.left_out.values())
        verb = "leaves" if len(plan.limits) == 1 else "leave"
        lines.append(f"{' and '.join(plan.limits)} {verb} {left} trials out, {_hours(plan.left_out.values())} hours")
        if bare := sorted(set(plan.left_out) - set(kept)):
            named = ", ".join(" x ".join(cell) for cell in bare[:3]) + (", ..." if len(bare) > 3 else "")
            lines.append(f"{len(bare)} of {len(rows)} dataset x backbone have no trial: {named}")
    return rows, lines


def _hours(loads: Iterable[Load]) -> str:
    seconds = [load.seconds for load in loads]
    return "unknown" if None in seconds else f"{sum(s for s in seconds if s is not None) / 3600:.2f}"


def study_trials(study: Study, cost: CostModel | None = None) -> list[PlannedTrial]:
    """Every trial of `study`, those that tell the most first: in rounds over the cells, the default configs first."""
    for size, names in {study.size(card): study.backbones_for(card) for card in study.cards}.items():
        for name in names:
            check_size(member_spec(name), size)
    columns = []
    for card in study.cards:
        key = dataset_key(card, study.size(card), study.caps)
        for draws in cells(study, card).values():
            column = []
            for draw in draws:
                spec = TrialSpec(
                    card.name, key, draw.fold, draw.config, draw.seed, study.epochs, study.time_limit_seconds
                )
                column.append(PlannedTrial(spec, draw.design, None if cost is None else cost(spec)))
            columns.append(column)
    return [trial for trial in chain.from_iterable(zip_longest(*columns)) if trial is not None]


def within(trials: Sequence[PlannedTrial], budget_seconds: float) -> list[PlannedTrial]:
    """The longest beginning of `trials` whose predicted cost is within the budget; InvalidInput where it is empty."""
    seconds = predicted(trials)
    kept = bisect_right(list(accumulate(seconds)), budget_seconds)
    if not kept:
        raise InvalidInput(
            f"the budget of {budget_seconds:g} s is not enough for one trial, which takes {seconds[0]:.1f} s: give more"
        )
    return list(trials[:kept])


def _units(trials: Iterable[PlannedTrial], size: int) -> Iterable[Unit]:
    """`trials` in units of up to `size`, the next always of the cell that has the fewest trials before it."""
    columns: dict[Cell, list[list[PlannedTrial]]] = defaultdict(list)
    filling: dict[tuple[object, ...], list[PlannedTrial]] = {}
    for trial in trials:
        group = (trial.cell, trial.spec.fold, *(trial.spec.config.get(name) for name in _UNIT_AXES))
        if group not in filling or len(filling[group]) == size:
            filling[group] = []
            columns[trial.cell].append(filling[group])
        filling[group].append(trial)
    waiting = [(0, order, iter(column)) for order, column in enumerate(columns.values())]
    while waiting:
        count, order, column = waiting[0]
        unit = next(column, None)
        if unit is None:
            heapq.heappop(waiting)
            continue
        heapq.heapreplace(waiting, (count + len(unit), order, column))
        yield Unit.of(unit)


def write_plan(plan: Plan, path: Path) -> None:
    """Write `plan` as Parquet, with its study in the file's metadata."""
    written: dict[Config, str] = {}
    rows: dict[str, list[object]] = {name: [] for name in _SCHEMA.names}
    for unit in plan.units:
        for trial in unit.trials:
            spec = trial.spec
            if spec.config not in written:
                written[spec.config] = json.dumps(dict(spec.config))
            values = (
                *(unit.unit_id, spec.trial_id, spec.dataset, spec.dataset_key, spec.fold, spec.config.config_id),
                *(written[spec.config], trial.design, spec.seed, spec.epochs, spec.time_limit_seconds),
                trial.predicted_seconds,
            )
            for column, value in zip(rows.values(), values, strict=True):
                column.append(value)
    limits = {
        "budget_seconds": plan.budget_seconds,
        "longest_seconds": plan.longest_seconds,
        "left_out": [[*cell, *load] for cell, load in plan.left_out.items()],
    }
    schema = _SCHEMA.with_metadata({_STUDY: json.dumps(plan.study.document), _LIMITS: json.dumps(limits)})
    with replace_file(path) as partial:
        pq.write_table(pa.Table.from_pydict(rows, schema=schema), partial, compression="zstd")


def read_plan(path: Path) -> Plan:
    """Read a plan back; InvalidInput when `path` is not one or no longer means what it meant when it was made."""
    try:
        table = pq.read_table(path)
        metadata = table.schema.metadata or {}
        document = json.loads(metadata[_STUDY.encode()])
    except OSError as error:
        raise InvalidInput(f"cannot read the plan {path}: {error.strerror or 'no such file'}") from None
    except (pa.ArrowException, KeyError, TypeError, ValueError):
        raise InvalidInput(
            f"{path} is not a plan: make one with  corpus-builder plan STUDY.yaml --out PLAN.parquet"
        ) from None
    if table.schema.remove_metadata() != _SCHEMA or _LIMITS.encode() not in metadata:
        raise InvalidInput(f"{path} was made by another version of corpus_builder: plan again")
    study = Study.from_document(document, what=f"the study in {path}")
    limits = json.loads(metadata[_LIMITS.encode()])
    units = _read_units(table, study, path)
    left_out = {(dataset, backbone): Load(*load) for dataset, backbone, *load in limits["left_out"]}
    return Plan(study, tuple(units), limits["budget_seconds"], limits["longest_seconds"], left_out)


def _read_units(table: pa.Table, study: Study, path: Path) -> Iterable[Unit]:
    space = study.space
    keys = {card.name: dataset_key(card, study.size(card), study.caps) for card in study.cards}
    configs: dict[str, Config] = {}  # shared by the trials of a config, of which there may be many
    units: dict[str, list[PlannedTrial]] = defaultdict(list)
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            if keys.get(row["dataset"]) != row["dataset_key"]:
                raise InvalidInput(f"the card of {row['dataset']} changed since {path} was made: plan again")
            if row["config"] not in configs:
                configs[row["config"]] = space.config(json.loads(row["config"]))
            spec = TrialSpec(
                *(row["dataset"], row["dataset_key"], row["fold"], configs[row["config"]]),
                *(row["seed"], row["epochs"], row["time_limit_seconds"]),
            )
            if spec.trial_id != row["trial_id"]:
                raise InvalidInput(f"trial {row['trial_id']} of {path} is not what its columns say: plan again")
            units[row["unit"]].append(PlannedTrial(spec, row["design"], row["predicted_seconds"]))
    for unit_id, trials in units.items():
        yield Unit(unit_id, tuple(trials))
