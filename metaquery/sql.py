"""User SQL over the tables of a corpus, in a DuckDB that can reach nothing else.

Three locks, each enough for most attacks: DuckDB's own (no external access, no extensions, no Python variables,
configuration locked); the corpus files are visible only through a file system that cannot write, because DuckDB's
list of allowed paths would also allow `COPY ... TO` them; and every query is one statement in a read-only transaction.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from metaquery.errors import InvalidInput
from metaquery.metrics import Metric
from metaquery.result import Result
from metaquery.views import ready_views

_SCHEME = "corpus://"
_STATEMENTS = ("SELECT", "EXPLAIN", "MULTI")  # MULTI is what DuckDB makes of PIVOT


class SqlSession:
    """A locked DuckDB database whose views read `files` (name to Parquet file): one for each table, and ready ones.

    `tables` maps the name of a table to the query behind it, in which `parquet(name)` is a file; by default each file
    is a table. `metric` is the one that the ready views go by, see `metaquery.views`.
    """

    def __init__(self, files: Mapping[str, Path], metric: Metric, tables: Mapping[str, str] | None = None) -> None:
        import duckdb

        self._connection = duckdb.connect(":memory:")
        # A connection that is left to the interpreter's exit prints what leaked, as it holds the file system.
        self._finalizer = weakref.finalize(self, self._connection.close)
        paths = {f"{_SCHEME}{name}.parquet": path for name, path in files.items()}
        self._connection.register_filesystem(_read_only_filesystem(paths))
        if tables is None:
            tables = {name: f"FROM {parquet(name)}" for name in files}
        with _one_line_errors():
            columns = {name: self._create(name, query) for name, query in tables.items()}
            for name, query in ready_views(metric, columns).items():
                self._create(name, query)
        spill = Path(tempfile.gettempdir()) / f"metaquery-{os.getpid()}"
        for setting in (
            f"temp_directory = {quoted(str(spill))}",
            f"allowed_paths = [{', '.join(map(quoted, paths))}]",
            "enable_external_access = false",
            "python_enable_replacements = false",
            "autoload_known_extensions = false",
            "autoinstall_known_extensions = false",
            "lock_configuration = true",
        ):
            self._connection.execute(f"SET {setting}")

    def _create(self, name: str, query: str) -> list[str]:
        """Make the view `name`; its columns."""
        self._connection.execute(f"CREATE VIEW {name} AS {query}")
        return [row[0] for row in self._connection.execute(f"DESCRIBE {name}").fetchall()]

    def run(self, query: str) -> Result:
        """The result of one read-only statement; raises InvalidInput with DuckDB's message where it fails."""
        cursor = self._connection.cursor()
        try:
            with _one_line_errors():
                kinds = [_kind(statement) for statement in cursor.extract_statements(query)]
                if len(kinds) != 1 or kinds[0] not in _STATEMENTS:
                    raise InvalidInput(f"SQL: expected one SELECT statement, got {' and '.join(kinds) or 'none'}")
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                relation = cursor.sql(query)
                if relation is None:
                    raise InvalidInput("SQL: expected a query with a result, got one without")
                return Result(relation.to_arrow_table())
        finally:
            cursor.close()  # ends the transaction


def parquet(name: str) -> str:
    """How a query reads the file called `name`."""
    return f"read_parquet({quoted(f'{_SCHEME}{name}.parquet')})"


def quoted(text: str) -> str:
    """`text` as a string of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _kind(statement: Any) -> str:
    try:
        return str(statement.type.name)
    except ValueError:  # a kind that DuckDB's Python types do not know
        return "another statement"


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn DuckDB's errors, several lines with a drawing of the place, into one line."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        message = str(error).split("\n\nLINE ")[0]
        raise InvalidInput(f"SQL: {' '.join(message.split())}") from error


def _read_only_filesystem(files: Mapping[str, Path]) -> Any:
    """An fsspec file system that holds exactly `files`, by URL, and cannot write."""
    from fsspec import AbstractFileSystem

    class CorpusFiles(AbstractFileSystem):
        protocol = _SCHEME.removesuffix("://")
        cachable = False

        def open(self, path: str, mode: str = "rb", **_: Any) -> mmap.mmap:
            if mode != "rb" or path not in files:
                raise PermissionError(f"{path} cannot be opened for {mode!r}: a corpus is read-only")
            with files[path].open("rb") as file:
                # DuckDB's threads share the handle: reads of a map never let another thread in between seek and read.
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

        def glob(self, path: str, **_: Any) -> list[str]:
            return [path] if path in files else []

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            return {"name": path, "size": files[path].stat().st_size, "type": "file"}

        def modified(self, path: str) -> datetime:
            return datetime.fromtimestamp(files[path].stat().st_mtime, UTC)

    return CorpusFiles()
