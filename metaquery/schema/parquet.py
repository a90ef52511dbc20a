"""How the tables are ordered and encoded as Parquet files.

Measured on curves: BYTE_STREAM_SPLIT floats, DELTA_BINARY_PACKED integers and zstd-3 in groups of 100,000 rows are
half the size of plain Parquet and the fastest to write. Dictionaries pay for strings and, as they have few values, for
accuracies (0.5 to 0.9 of the size); of other metrics they make real curves larger, also where these are rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaquery.errors import CorpusError
from metaquery.schema.tables import table

if TYPE_CHECKING:
    import pyarrow as pa

_ROW_GROUP = 100_000
_TRIAL_ORDER = ("dataset", "fold", "config_id", "seed")
_FEW_VALUES = ("val_accuracy", "test_accuracy")  # a count over the samples


def sort_table(name: str, data: pa.Table) -> pa.Table:
    """`data` in the order of the table `name`: trials by dataset, fold, config and seed, others by key."""
    columns = _TRIAL_ORDER if name == "trials" else table(name).primary_key
    return data.sort_by([(column, "ascending") for column in columns])


def sort_curves(curves: pa.Table, trials: pa.Table) -> pa.Table:
    """`curves` in the order of `trials`, then by epoch."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rank = pc.index_in(curves["trial_id"], value_set=trials["trial_id"].combine_chunks())
    keys = pa.table({"rank": rank, "epoch": curves["epoch"]})
    return curves.take(pc.sort_indices(keys, [("rank", "ascending"), ("epoch", "ascending")]))


def decoded(read: Callable[[], Any], path: Path) -> Any:
    """What `read` returns of the file `path`, with pyarrow's errors as CorpusError."""
    import pyarrow as pa

    try:
        return read()
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: a name that is not text
        raise CorpusError(f"{path} cannot be read ({error}): run  metaquery verify  on the corpus") from error


def write_parquet(data: pa.Table, path: Path) -> None:
    """Write `data` to `path`; the same data gives the same bytes."""
    with closing(TableWriter(path, data.schema)) as writer:
        writer.add(data)


class TableWriter:
    """A Parquet file that is written in pieces; how the rows are cut into pieces makes no difference to its bytes."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        encodings = {}
        for field in schema:
            is_list = pa.types.is_list(field.type)
            column = f"{field.name}.list.element" if is_list else field.name
            kind = field.type.value_type if is_list else field.type
            if pa.types.is_floating(kind) and column not in _FEW_VALUES:
                encodings[column] = "BYTE_STREAM_SPLIT"
            elif pa.types.is_integer(kind):
                encodings[column] = "DELTA_BINARY_PACKED"
        plain = [field.name for field in schema if pa.types.is_string(field.type) or field.name in _FEW_VALUES]
        self.rows = 0
        self._waiting = schema.empty_table()
        self._writer = pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=plain,
            column_encoding=encodings,
            write_page_checksum=True,
        )

    def add(self, data: pa.Table) -> None:
        """Append the rows of `data`."""
        import pyarrow as pa

        self.rows += len(data)
        self._waiting = pa.concat_tables([self._waiting, data])
        while len(self._waiting) >= _ROW_GROUP:
            self._write(_ROW_GROUP)

    def _write(self, count: int) -> None:
        self._writer.write_table(self._waiting.slice(0, count).combine_chunks(), row_group_size=_ROW_GROUP)
        self._waiting = self._waiting.slice(count)

    def close(self) -> None:
        """Write what is left, and the footer."""
        if len(self._waiting):
            self._write(len(self._waiting))
        self._writer.close()
