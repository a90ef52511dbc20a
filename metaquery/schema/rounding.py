"""The resolution at which a corpus that the builder seals stores its curves: far below the noise of a seed or a timer.

Metrics between 0 and 1 are multiples of 2^-12, losses keep 10 explicit bits of their mantissa and seconds 8. Rounding
must not move the best epoch of a trial, whose predictions are stored: the metric that decides on it is four times as
fine, and a value below the trial's best stays below it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from metaquery.metrics import METRICS
from metaquery.schema.predictions import DECIDES_BEST, SPLITS
from metaquery.schema.tables import Column, table

if TYPE_CHECKING:
    import pyarrow as pa

Values = NDArray[np.float32]

_STEP = 2.0**-12
_FINE_STEP = 2.0**-14
_MANTISSA_BITS = {"nat": 10, "s": 8}  # by unit
_SHARES = {name for name, metric in METRICS.items() if (metric.lower, metric.upper) == (0.0, 1.0)}

RESOLUTION: Mapping[str, Mapping[str, float]] = {
    "max_error": dict.fromkeys(sorted(_SHARES), _STEP / 2),
    "max_relative_error": {"loss": 2.0 ** -(_MANTISSA_BITS["nat"] + 1), "seconds": 2.0 ** -(_MANTISSA_BITS["s"] + 1)},
}
"""How far stored curves can be from what was measured, in single precision: what the manifest says of them."""


def rounded_curves(curves: pa.Table) -> pa.Table:
    """`curves`, in which the rows of a trial stand together, at the resolution; rounding again changes nothing.

    What is not finite stays as it is.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    starts = _starts(curves)
    for column in table("curves").columns:
        given = curves[column.name]
        with np.errstate(over="ignore"):  # of what is no metric at all
            rounded = _rounded(column, given, starts)
        if rounded is not None:
            stored = pa.array(rounded, given.type, mask=pc.is_null(given).to_numpy())
            position = curves.schema.get_field_index(column.name)
            curves = curves.set_column(position, curves.schema.field(position), stored)
    return curves


def off_resolution(curves: pa.Table) -> Iterator[tuple[str, int]]:
    """The columns of `curves` that rounding would change, each with the first row where it would."""
    rounded = rounded_curves(curves)
    for name in curves.column_names:
        if not curves[name].equals(rounded[name]):
            stored, expected = curves[name].to_numpy(), rounded[name].to_numpy()
            moved = np.flatnonzero((stored != expected) & ~np.isnan(expected))
            if len(moved):
                yield name, int(moved[0])


def _rounded(column: Column, values: pa.ChunkedArray, starts: NDArray[np.int64]) -> Values | None:
    """`values` of `column` at its resolution, given the first row of each trial; None where it is stored exactly."""
    if column.name == DECIDES_BEST:
        return _below_best(values.to_numpy(), starts)
    if column.name in {f"{split}_{name}" for split in SPLITS for name in _SHARES}:
        return _to_step(values.to_numpy(), _STEP)
    if column.unit in _MANTISSA_BITS:
        return _to_mantissa(values.to_numpy(), _MANTISSA_BITS[column.unit])
    return None


def _starts(curves: pa.Table) -> NDArray[np.int64]:
    """The first row of each trial."""
    import pyarrow.compute as pc

    ends = pc.run_end_encode(curves["trial_id"].combine_chunks()).run_ends.to_numpy()
    starts: NDArray[np.int64] = np.concatenate([[0], ends])[:-1].astype(np.int64)
    return starts


def _to_step(values: Values, step: float) -> Values:
    """The nearest multiples of `step`, a power of two."""
    nearest: Values = np.rint(values / np.float32(step)) * np.float32(step)
    return nearest


def _to_mantissa(values: Values, bits: int) -> Values:
    """The nearest numbers with `bits` explicit bits in the mantissa; one that would become infinite stays."""
    mantissa, exponent = np.frexp(values)
    scale = np.float32(2.0 ** (bits + 1))
    nearest: Values = np.ldexp(np.rint(mantissa * scale) / scale, exponent)
    return np.where(np.isinf(nearest), values, nearest)


def _below_best(values: Values, starts: NDArray[np.int64]) -> Values:
    """The nearest multiples of the fine step, or the one below for a value that would meet its trial's best.

    The error is at most 1.5 fine steps. A best above 0 stays above it, so that there is always one below.
    """
    if not len(values):
        return values
    step = np.float32(_FINE_STEP)
    highest = np.fmax.reduceat(values, starts)
    top = np.where(highest > 0, np.maximum(_to_step(highest, _FINE_STEP), step), _to_step(highest, _FINE_STEP))
    lengths = np.diff(starts, append=len(values))
    best, stored_best = np.repeat(highest, lengths), np.repeat(top, lengths)
    nearest = _to_step(values, _FINE_STEP)
    return np.where(values < best, np.minimum(nearest, stored_best - step), np.maximum(nearest, stored_best))
