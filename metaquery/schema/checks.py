"""What must hold inside and between the tables of a corpus. Sealing refuses what breaks it, verifying reports it.

Every problem is one line that begins with the table it is in and names the first rows concerned. A check that needs
several tables runs where all of them have their columns, so that one broken table does not hide the faults of others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from metaquery.errors import InvalidConfig, UnknownName
from metaquery.metrics import METRICS
from metaquery.schema.predictions import SPLITS
from metaquery.schema.tables import TABLE_NAMES, nulls, schema_of, table
from metaquery.space import SearchSpace
from metaquery.types import EPOCHLESS_FAMILY, SOUND, Status

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_MISSING = "the table is missing"
_SHOWN = 3
_ROUNDING = 1e-4  # a metric at its bound may lie this far beyond it in single precision


def problems_of_tables(
    tables: Mapping[str, pa.Table],
    space: SearchSpace | None,
    epochs: int,
    *,
    imported: bool = False,
    without: Collection[str] = (),
) -> list[str]:
    """Every problem of `tables`, in a corpus of full fidelity `epochs`; without `space`, configs are not checked.

    What only the builder must know is not asked of an `imported` corpus. Tables in `without` may be missing.
    """
    sound, problems = sound_tables(tables, space, imported=imported)
    problems = [problem for problem in problems if problem not in {f"{name}: {_MISSING}" for name in without}]
    frames = {name: _frame(data) for name, data in sound.items()}
    for name, rows in frames.items():
        problems += _column_problems(name, rows)
    problems += _key_problems(frames)
    if "configs" in frames and space is not None:
        problems += _config_problems(frames["configs"], space)
    if "trials" in frames:
        frames["trials"] = _with_epochless(frames)
    for needed, check in (
        (("datasets",), _dataset_problems),
        (("datasets", "splits"), _split_problems),
        (("curves",), _curve_problems),
        (("trials", "curves"), partial(_trial_curve_problems, imported=imported)),
        (("backbones",), partial(_network_problems, imported=imported)),
        (("datasets", "backbones", "configs", "trials"), _backbone_problems),
    ):
        if all(name in frames for name in needed):
            problems += check(*(frames[name] for name in needed))
    if "trials" in frames:
        problems += _trial_problems(frames["trials"], epochs)
    return problems


def problems_of_curves(curves: pa.Table, tables: Mapping[str, pa.Table], imported: bool) -> list[str]:
    """Every problem of the `curves` of some trials; `tables` are `trials`, those alone, `configs` and `backbones`."""
    expected = table("curves").arrow_schema(imported=imported)
    if problems := [f"curves: {problem}" for problem in nulls(curves, expected)]:
        return problems
    frames = {name: _frame(tables[name]) for name in ("trials", "configs", "backbones")}
    trials, rows = _with_epochless(frames), _frame(curves)
    return [
        *_column_problems("curves", rows),
        *_key_problems({"trials": trials, "curves": rows}),
        *_curve_problems(rows),
        *_trial_curve_problems(trials, rows, imported=imported),
    ]


def sound_tables(
    tables: Mapping[str, pa.Table], space: SearchSpace | None, *, imported: bool = False
) -> tuple[dict[str, pa.Table], list[str]]:
    """The tables that have the columns of the schema and no null where it allows none; and what the others lack."""
    sound: dict[str, pa.Table] = {}
    problems = [f"{name}: not a table of the schema" for name in tables if name not in TABLE_NAMES]
    for name in TABLE_NAMES:
        if name not in tables:
            problems.append(f"{name}: {_MISSING}")
        elif space is not None or name != "configs":
            expected = (
                table(name).arrow_schema(imported=imported)
                if space is None
                else schema_of(name, space, imported=imported)
            )
            found = list(_schema_problems(tables[name].schema, expected)) or nulls(tables[name], expected)
            problems += [f"{name}: {problem}" for problem in found]
            if not found:
                sound[name] = tables[name]
    return sound, problems


def _frame(data: pa.Table) -> pl.DataFrame:
    import polars as pl
    import pyarrow as pa

    plain = pa.table({name: data[name] for name in data.column_names})  # polars panics at metadata that is not text
    return pl.DataFrame(pl.from_arrow(plain))


def _schema_problems(found: pa.Schema, expected: pa.Schema) -> Iterator[str]:
    for field in expected:
        if found.names.count(field.name) != 1:
            yield f"column {field.name} is {'there more than once' if field.name in found.names else 'missing'}"
        elif found.field(field.name).type != field.type:
            yield f"column {field.name} is {found.field(field.name).type}, expected {field.type}"
    for column in found.names:
        if column not in expected.names:
            yield f"column {column} is not in the schema"


def _shown(rows: pl.DataFrame, key: Iterable[str]) -> str:
    """The keys of the first of `rows`, in words."""
    named = list(dict.fromkeys("/".join(str(part) for part in row) for row in rows.select(list(key)).iter_rows()))
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return ", ".join(named[:_SHOWN]) + more


def _column_problems(name: str, rows: pl.DataFrame) -> Iterator[str]:
    """Values outside enumerations, numbers that are not finite, negative times, duplicate primary keys."""
    import polars as pl

    spec = table(name)
    for column in spec.columns:
        values = pl.col(column.name)
        if column.values:
            bad = rows.filter(~values.is_in(list(column.values)))
            if len(bad):
                strange = ", ".join(repr(value) for value in bad[column.name].unique(maintain_order=True)[:_SHOWN])
                where = _shown(bad, spec.primary_key)
                yield f"{name}: {column.name} is {strange} in {where}, expected one of {column.values}"
        if column.unit == "s":
            bad = rows.filter(~values.is_finite() | (values < 0))
            if len(bad):
                yield f"{name}: {column.name} is negative or not finite in {_shown(bad, spec.primary_key)}"
    double = rows.filter(pl.struct(spec.primary_key).is_duplicated())
    if len(double):
        yield f"{name}: duplicate {'/'.join(spec.primary_key)} {_shown(double, spec.primary_key)}"


def _key_problems(sound: Mapping[str, pl.DataFrame]) -> Iterator[str]:
    """Foreign keys that point nowhere."""
    for name, rows in sound.items():
        for columns, target in table(name).foreign_keys:
            if target in sound:
                dangling = rows.join(
                    sound[target], left_on=list(columns), right_on=list(table(target).primary_key), how="anti"
                )
                if len(dangling):
                    yield f"{name}: {'/'.join(columns)} {_shown(dangling, columns)} not in {target}"


def _config_problems(configs: pl.DataFrame, space: SearchSpace) -> Iterator[str]:
    grid_space = space.core()
    for row in configs.iter_rows(named=True):
        config_id, design = row.pop("config_id"), row.pop("design")
        values = {name: value for name, value in row.items() if value is not None}
        try:
            content = space.config(values).config_id
            if content != config_id:
                yield f"configs: {config_id} is not the hash of its hyperparameters, which is {content}"
            if design == "grid":
                grid_space.config(values)
        except (InvalidConfig, UnknownName) as error:
            yield f"configs: {config_id} ({design}) is outside space.json: {error}"


def _dataset_problems(datasets: pl.DataFrame) -> Iterator[str]:
    import polars as pl

    for bad, what in (
        (pl.col("class_names").list.len() != pl.col("n_classes"), "class_names does not have n_classes names"),
        (pl.col("shape").list.len() != pl.col("n_dims"), "shape does not have n_dims numbers"),
        ((pl.col("n_classes") == 2) != (pl.col("task") == "binary"), "task contradicts n_classes"),
        (pl.col("n_classes") < 2, "n_classes is below 2"),
        (~pl.col("dataset").str.contains(r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), "dataset is not a plain name"),
    ):
        rows = datasets.filter(bad)
        if len(rows):
            yield f"datasets: {what} in {_shown(rows, ['dataset'])}"


def _split_problems(datasets: pl.DataFrame, splits: pl.DataFrame) -> Iterator[str]:
    import polars as pl

    straddling = (
        splits.group_by("dataset", "fold", "group", maintain_order=True)
        .agg(pl.col("role").n_unique().alias("roles"))
        .filter(pl.col("roles") > 1)
    )
    if len(straddling):
        yield f"splits: a group has several roles in one fold: {_shown(straddling, ['dataset', 'fold', 'group'])}"
    labels = splits.join(datasets, on="dataset").filter(
        (pl.col("label") < 0) | (pl.col("label") >= pl.col("n_classes"))
    )
    if len(labels):
        yield f"splits: label is not below n_classes in {_shown(labels, ['dataset', 'fold', 'sample'])}"


def _curve_problems(curves: pl.DataFrame) -> Iterator[str]:
    import polars as pl

    for name, metric in METRICS.items():
        for column in (f"{split}_{name}" for split in SPLITS):
            value = pl.col(column)
            low, high = metric.lower - _ROUNDING, metric.upper + _ROUNDING
            bad = curves.filter(value.is_nan() | (value < low) | (value > high))
            if len(bad):
                bounds = f"[{metric.lower:g}, {metric.upper:g}]"
                yield f"curves: {column} is outside {bounds} or NaN in {_shown(bad, ['trial_id', 'epoch'])}"


def _with_epochless(frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The trials with a column that says which have no epochs: those of backbones of the family that has none.

    It is null, and what depends on it is not checked, where the tables that tell are not sound.
    """
    import polars as pl

    trials = frames["trials"]
    if not {"configs", "backbones"} <= frames.keys():
        return trials.with_columns(pl.lit(None, pl.Boolean).alias("epochless"))
    if "backbone" not in frames["configs"].columns:
        return trials.with_columns(pl.lit(False).alias("epochless"))
    family = frames["backbones"].filter(pl.col("family") == EPOCHLESS_FAMILY)["backbone"].to_list()
    configs = frames["configs"].filter(pl.col("backbone").is_in(family))["config_id"].to_list()
    return trials.with_columns(pl.col("config_id").is_in(configs).alias("epochless"))


def _trial_curve_problems(trials: pl.DataFrame, curves: pl.DataFrame, *, imported: bool) -> Iterator[str]:
    import polars as pl

    epoch, epochless = pl.col("epoch"), pl.col("epochless")
    spans = curves.group_by("trial_id").agg(
        epoch.len().alias("rows"),
        epoch.min().alias("first"),
        epoch.max().alias("end"),
        pl.col("learning_rate").is_null().any().alias("unknown_rate"),
    )
    found = trials.join(spans, on="trial_id", how="left").with_columns(pl.col("rows").fill_null(0))
    short = found.filter(pl.col("rows") != pl.col("epochs_run"))
    for row in short.head(_SHOWN).iter_rows(named=True):
        yield f"curves: trial {row['trial_id']} has {row['rows']} rows, but its epochs_run is {row['epochs_run']}"
    if len(short) > _SHOWN:
        yield f"curves: {len(short) - _SHOWN} more trials do not have epochs_run rows"
    consecutive = (pl.col("first") == 1) & (pl.col("end") == pl.col("rows"))
    for bad, what in (
        (~epochless & ~consecutive, "epochs are not 1 to n"),
        (epochless & (pl.col("end") != pl.col("epochs_planned")), "the record is not at epochs_planned"),
        (
            ~epochless & pl.col("unknown_rate") & (not imported),
            "learning_rate is null, though the backbone has epochs,",
        ),
    ):
        rows = found.filter(bad)
        if len(rows):
            yield f"curves: {what} in trial {_shown(rows, ['trial_id'])}"


def _trial_problems(trials: pl.DataFrame, epochs: int) -> Iterator[str]:
    import polars as pl

    run, planned, status = pl.col("epochs_run"), pl.col("epochs_planned"), pl.col("status")
    epochless, completed = pl.col("epochless"), status == Status.COMPLETED
    identity = ["dataset", "fold", "config_id", "seed"]
    for bad, what in (
        (~epochless & completed & (run != planned), "completed, but epochs_run is not epochs_planned"),
        (epochless & (run != completed.cast(pl.Int32)), "no epochs, but epochs_run is not 1 if completed, else 0"),
        ((run < 0) | (run > planned), "epochs_run is not between 0 and epochs_planned"),
        ((planned < 1) | (planned > epochs), f"epochs_planned is not between 1 and the corpus's {epochs}"),
        (~status.is_in(SOUND) & pl.col("error").is_null(), "a failure without a message in error"),
        (completed & pl.col("error").is_not_null(), "completed, but with an error"),
        ((pl.col("engine") == "single") & (pl.col("fused_width") != 1), "engine is single, but fused_width is not 1"),
        (~pl.col("trial_id").str.contains("^[0-9a-f]{16}$"), "trial_id is not 16 hexadecimal digits"),
        (pl.struct(identity).is_duplicated(), "several trials of one dataset, fold, config and seed"),
    ):
        rows = trials.filter(bad)
        if len(rows):
            yield f"trials: {what}: {_shown(rows, ['trial_id'])}"


def _network_problems(backbones: pl.DataFrame, *, imported: bool) -> Iterator[str]:
    """Counts that only a network can have, and that every network must have, unless it is `imported`."""
    import polars as pl

    network = pl.col("family") != EPOCHLESS_FAMILY
    for column in ("parameters", "flops"):
        unknown = pl.col(column).is_null()
        rows = backbones.filter(~network & ~unknown if imported else unknown == network)
        if len(rows):
            named = _shown(rows, ["backbone"])
            yield f"backbones: {column} must be null for the family {EPOCHLESS_FAMILY} and for no other, see {named}"


def _backbone_problems(
    datasets: pl.DataFrame, backbones: pl.DataFrame, configs: pl.DataFrame, trials: pl.DataFrame
) -> Iterator[str]:
    """Configs whose backbone is not in the table, and trials whose backbone has other dimensions than their images."""
    import polars as pl

    if "backbone" not in configs.columns:
        return
    dangling = configs.join(backbones, on="backbone", how="anti")
    if len(dangling):
        yield f"configs: backbone {_shown(dangling, ['backbone'])} not in backbones"
    used: Any = trials.join(datasets.select("dataset", "n_dims"), on="dataset").join(
        configs.select("config_id", "backbone"), on="config_id"
    )
    used = used.join(backbones.select("backbone", pl.col("n_dims").alias("takes")), on="backbone")
    wrong = used.filter(pl.col("n_dims") != pl.col("takes"))
    if len(wrong):
        yield f"trials: the backbone does not take the dataset's dimensions: {_shown(wrong, ['trial_id', 'backbone'])}"
