"""The result of a SQL query: rows, Arrow, polars, pandas, text and files."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from metaquery.errors import InvalidInput, MissingExtra, UnknownName

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

FORMATS = ("table", "csv", "json", "parquet")

_SHOWN_ROWS = 40
_SHOWN_CHARACTERS = 60


class Result:
    """Rows and named columns. Printing it shows the first rows as an aligned table and says how many are left out."""

    def __init__(self, data: pa.Table) -> None:
        self._data = _with_integers(data)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(self._data.column_names)

    def __len__(self) -> int:
        return int(self._data.num_rows)

    def rows(self) -> list[tuple[Any, ...]]:
        """All rows as tuples of Python values."""
        return list(self._iterate())

    def arrow(self) -> pa.Table:
        """The result as an Arrow table."""
        return self._data

    def polars(self) -> pl.DataFrame:
        """The result as a polars DataFrame; raises InvalidInput where two columns have the same name."""
        import polars as pl

        self._check_unique("a DataFrame")
        frame = pl.from_arrow(self._data)
        return frame if isinstance(frame, pl.DataFrame) else frame.to_frame()

    def pandas(self) -> pd.DataFrame:
        """The result as a pandas DataFrame; raises MissingExtra where pandas is not installed."""
        try:
            import pandas  # noqa: F401  (pyarrow would raise its own, longer error)
        except ImportError:
            raise MissingExtra.of("pandas", "pandas") from None
        frame: pd.DataFrame = self._data.to_pandas()
        return frame

    def __str__(self) -> str:
        shown = self._data.slice(0, _SHOWN_ROWS)
        cells = [[_cell(value) for value in column.to_pylist()] for column in shown.columns]
        numeric = [_is_number(column.type) for column in shown.columns]
        widths = [max(map(len, [name, *column])) for name, column in zip(self.columns, cells, strict=True)]

        def line(values: list[str]) -> str:
            aligned = zip(values, widths, numeric, strict=True)
            return "  ".join(v.rjust(width) if right else v.ljust(width) for v, width, right in aligned).rstrip()

        lines = [line(list(self.columns)), "  ".join("-" * width for width in widths)]
        lines += [line([column[row] for column in cells]) for row in range(shown.num_rows)]
        hidden = len(self) - shown.num_rows
        if hidden:
            lines.append(f"... and {hidden} more rows (of {len(self)})")
        return "\n".join(lines)

    __repr__ = __str__

    def write(self, form: str, path: Path | None = None) -> str | None:
        """Write the result as `table`, `csv`, `json` or `parquet` to `path`, or return the text where that is None.

        JSON is a list with one object per row; numbers that are not finite become null in it. The file is there
        whole or not at all. Raises UnknownName for another format, InvalidInput for Parquet without a path.
        """
        if form not in FORMATS:
            raise UnknownName.of("format", form, FORMATS)
        if form == "parquet" and path is None:
            raise InvalidInput("parquet is binary: expected a file to write it to (--out FILE), got none")
        if path is None:
            text = io.StringIO()
            self._write_text(form, text)
            return text.getvalue().removesuffix("\n")
        try:
            self._write_file(form, Path(path))
        except OSError as error:
            raise InvalidInput(f"cannot write {path}: {error.strerror or error}") from error
        return None

    def _write_file(self, form: str, path: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as staging:
            part = Path(staging) / "part"
            if form == "parquet":
                from metaquery.schema.parquet import write_parquet

                write_parquet(self._data, part)
            else:
                with part.open("w", newline="", encoding="utf-8") as file:
                    self._write_text(form, file)
            os.replace(part, path)

    def _write_text(self, form: str, file: TextIO) -> None:
        if form == "table":
            file.write(str(self) + "\n")
        elif form == "csv":
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.columns)
            writer.writerows(self._iterate())
        else:
            self._check_unique("JSON")
            opening = "[\n"
            for row in self._iterate():
                item = dict(zip(self.columns, map(_jsonable, row), strict=True))
                file.write(opening + json.dumps(item, allow_nan=False, default=str))
                opening = ",\n"
            file.write("[]\n" if opening == "[\n" else "\n]\n")

    def _iterate(self) -> Iterator[tuple[Any, ...]]:
        for batch in self._data.to_batches():
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def _check_unique(self, what: str) -> None:
        double = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if double:
            raise InvalidInput(f"{what} needs distinct column names, got {', '.join(double)} twice: name them with AS")


def _with_integers(data: pa.Table) -> pa.Table:
    """DuckDB's 128-bit sums and counts, which Arrow can only carry as decimals, as integers where they fit."""
    import pyarrow as pa

    for position, field in enumerate(data.schema):
        if pa.types.is_decimal(field.type) and field.type.scale == 0:
            try:
                data = data.set_column(position, field.name, data.column(position).cast(pa.int64()))
            except pa.ArrowInvalid:  # too large for 64 bits
                continue
    return data


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _cell(value: Any) -> str:
    if value is None:
        return "null"
    text = f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split("\n"))
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _jsonable(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    return value
