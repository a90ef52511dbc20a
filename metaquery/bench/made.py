"""Made-up tables and corpora of a given size, the same for every participant."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaquery.benchmarks.tabular import TabularBenchmark
from metaquery.metrics import metric
from metaquery.schema.parquet import TableWriter, write_parquet
from metaquery.schema.rounding import rounded_curves
from metaquery.schema.tables import table
from metaquery.space import Hyperparameter, SearchSpace
from metaquery.types import Curve, Status

DIMENSIONS, EPOCHS, METRICS = 7, 50, 8
_TRIAL_EPOCHS = 27
_SLAB = 10_000  # trials that are made at once


class MadeTable(NamedTuple):
    """`points`, shape (n, DIMENSIONS) in the unit cube; `values`, (n, EPOCHS, METRICS), of which the first is a loss
    and the last the seconds spent."""

    points: NDArray[np.float64]
    values: NDArray[np.float32]


def make_table(configs: int) -> MadeTable:
    """A table of learning curves that fall at different paces to different levels."""
    rng = np.random.default_rng(configs)
    points = rng.random((configs, DIMENSIONS))
    level, pace = rng.random((2, configs, 1, METRICS))
    epochs = np.arange(1, EPOCHS + 1)[None, :, None]
    values = level + np.exp(-epochs / (2 + 20 * pace)) + 0.01 * rng.normal(size=(configs, EPOCHS, METRICS))
    values[:, :, -1] = np.cumsum(np.broadcast_to(5 + 20 * pace[:, :, 0], (configs, EPOCHS)), axis=1)
    return MadeTable(points, values.astype(np.float32))


def tabular(made: MadeTable) -> TabularBenchmark:
    """The table as a benchmark of ours."""
    axes = tuple(Hyperparameter(f"x{i}", "float", 0.5, low=0.0, high=1.0) for i in range(DIMENSIONS))
    space = SearchSpace("made", axes)
    configs = [space.config({f"x{i}": float(x) for i, x in enumerate(point)}) for point in made.points]
    losses, seconds = made.values[:, :, 0].astype(float), np.diff(made.values[:, :, -1].astype(float), prepend=0.0)
    curves = {
        config: Curve(loss, loss, cost, Status.COMPLETED, EPOCHS)
        for config, loss, cost in zip(configs, losses, seconds, strict=True)
    }
    return TabularBenchmark(
        curves,
        dataset="made",
        space=space,
        full_space=space,
        metric=metric("loss"),
        epochs=EPOCHS,
        fold=0,
        seed=0,
        source="made",
    )


def write_tables(directory: Path, rows: int) -> tuple[Path, Path, int]:
    """Write `trials` and `curves` of at least `rows` curve rows, as the builder does; their paths and the epochs.

    Losses, areas and times are noisy curves; accuracies and what derives from them are counts over 200 samples.
    """
    import pyarrow as pa

    rng = np.random.default_rng(rows)
    schema = table("curves").arrow_schema()
    trials, curves = directory / "trials.parquet", directory / "curves.parquet"
    ids: list[str] = []
    with closing(TableWriter(curves, schema)) as writer:
        for start in range(0, -(-rows // _TRIAL_EPOCHS), _SLAB):
            count = min(_SLAB, -(-rows // _TRIAL_EPOCHS) - start)
            names = [f"{number:016x}" for number in rng.integers(2**62, size=count).tolist()]
            ids += names
            epoch = np.tile(np.arange(1, _TRIAL_EPOCHS + 1, dtype=np.int32), count)
            columns: list[pa.Array] = [pa.array(np.repeat(names, _TRIAL_EPOCHS)), pa.array(epoch)]
            for column in schema.names[2:]:
                columns.append(pa.array(_column(column, epoch, rng)))
            writer.add(rounded_curves(pa.table(columns, schema=schema)))
    write_parquet(pa.table({"trial_id": ids, "epochs_run": np.full(len(ids), _TRIAL_EPOCHS, np.int32)}), trials)
    return trials, curves, _TRIAL_EPOCHS


def _column(name: str, epoch: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.float32]:
    level, pace = np.repeat(rng.random((2, len(epoch) // _TRIAL_EPOCHS)), _TRIAL_EPOCHS, axis=1)
    rise = (0.4 + 0.4 * level) * (1 - np.exp(-epoch / (1 + 9 * pace))) + 0.02 * rng.normal(size=len(epoch))
    if name == "learning_rate":
        values = 1e-3 * (1 + np.cos(np.pi * epoch / _TRIAL_EPOCHS)) / 2
    elif name.endswith("seconds"):
        values = (1 + 9 * level) * (1 + 0.01 * np.abs(rng.normal(size=len(epoch))))
    elif name.endswith(("accuracy", "f1")):
        values = np.round(200 * np.clip(rise, 0, 1)) / 200
    else:
        values = rise if name.endswith("auc") else 1.0 - rise
    single: NDArray[np.float32] = values.astype(np.float32)
    return single
