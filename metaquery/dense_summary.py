"""One row per trial for rankings: its best epoch by validation, the test value there, its last epoch and its cost."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from metaquery.metrics import Metric

if TYPE_CHECKING:
    import pyarrow as pa

    from metaquery.dense import Dense

_SLAB = 1 << 14  # trials that are ranked at once


def best_values(values: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """The best of each row of `values`, shape (n, epochs), in the direction of `metric`; NaN where there is none."""
    best = np.fmin if metric.direction == "minimize" else np.fmax  # both leave NaN out
    starts = np.arange(0, values.size, values.shape[1])
    # Twice as fast as a reduction along the axis, which NumPy does row by row.
    return np.asarray(best.reduceat(values.reshape(-1), starts) if len(starts) else np.empty(0, np.float32))


def summary(dense: Dense, trials: pa.Table, metric: Metric) -> pa.Table:
    """`trials`, which are those of `dense`, with these columns more, null where there is no such epoch or value.

    `best_epoch` is the epoch of the best validation value of `metric`, the first on ties; `best_val`, `best_test` and
    `last_val`, `last_test` are the values there and at `last_epoch`, in the metric's own direction; `best_seconds` and
    `last_seconds` are the training and evaluation seconds from the first epoch to the end of that one.
    """
    import pyarrow as pa

    path = dense.cached(f"summary-{metric.name}.arrow", lambda file: _write(file, _with_curves(dense, trials, metric)))
    if path is None:
        return _with_curves(dense, trials, metric)
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _write(file: IO[bytes], data: pa.Table) -> None:
    import pyarrow as pa

    with pa.ipc.new_file(file, data.schema) as writer:
        writer.write_table(data)


def _with_curves(dense: Dense, trials: pa.Table, metric: Metric) -> pa.Table:
    import pyarrow as pa

    first, last = dense.spans.T
    ran = last > first
    val, test = (dense.column(f"{split}_{metric.name}") for split in ("val", "test"))
    train, evaluation = dense.column("train_seconds"), dense.column("eval_seconds")
    best = np.zeros(len(val), np.int64)
    seconds = {name: np.zeros(len(val)) for name in ("best", "last")}
    end = np.maximum(last.astype(np.int64) - 1, 0)
    for start in range(0, len(val), _SLAB):
        slab = slice(start, start + _SLAB)
        sign = -1.0 if metric.direction == "minimize" else 1.0
        best[slab] = np.where(np.isnan(val[slab]), -np.inf, sign * val[slab]).argmax(axis=1)
        spent = train[slab].astype(np.float64) + np.nan_to_num(evaluation[slab])
        before = np.arange(val.shape[1]) < first[slab, None]
        spent = np.cumsum(np.where(before, 0.0, spent), axis=1)  # NaN from the first epoch without a cost on
        for name, at in (("best", best), ("last", end)):
            seconds[name][slab] = spent[np.arange(len(spent)), at[slab]]
    rows = np.arange(len(val))
    found = ran & np.isfinite(val[rows, best])
    columns: dict[str, pa.Array] = {}
    for name, at, there in (("best", best, found), ("last", end, ran)):
        columns[f"{name}_epoch"] = pa.array((at + 1).astype(np.int32), mask=~there)
        for part, values in (("val", val[rows, at]), ("test", test[rows, at]), ("seconds", seconds[name])):
            columns[f"{name}_{part}"] = pa.array(values, mask=~there | np.isnan(values))
    for name, column in columns.items():
        trials = trials.append_column(name, column)
    return trials.combine_chunks()
