"""Named queries: questions that a researcher asks of a corpus, one SQL file each.

The first line of a file is a comment with the question. The name of the query is that of the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from metaquery.errors import UnknownName


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """One question, in words and in SQL."""

    name: str
    question: str
    sql: str


@cache
def named_queries() -> dict[str, NamedQuery]:
    """All named queries by name, sorted."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.sql")):
        comment, sql = path.read_text(encoding="utf-8").split("\n", 1)
        found[path.stem] = NamedQuery(path.stem, comment.removeprefix("-- "), sql.strip())
    return found


def named_query(name: str) -> NamedQuery:
    """The query called `name`; raises UnknownName with the closest names."""
    if name not in named_queries():
        raise UnknownName.of("query", name, named_queries(), hint="metaquery sql SOURCE --list  says what each answers")
    return named_queries()[name]
