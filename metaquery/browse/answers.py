"""Answers to the page's SQL, found in a process of their own, so that a query can be stopped whatever it is doing."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from metaquery.errors import InvalidInput, MedCurvesError

if TYPE_CHECKING:
    from metaquery.corpus import Corpus

MAX_ROWS = 5_000
MAX_SECONDS = 20.0


class Answers:
    """Runs queries on the corpus `source`, one at a time, in the locked connection of `metaquery.sql`.

    An answer has `columns`, at most MAX_ROWS `rows` (objects) and whether it was `cut` there.
    """

    def __init__(self, source: str, seconds: float = MAX_SECONDS) -> None:
        self._source = source
        self._seconds = seconds
        self._alone = threading.Lock()
        self._start()

    def ask(self, query: str) -> str:
        """The answer to one SELECT statement, as JSON; InvalidInput where it fails or takes more than the seconds."""
        with self._alone:
            try:
                self._pipe.send(query)
                if self._pipe.poll(self._seconds):
                    sound, text = self._pipe.recv()
                    if sound:
                        return str(text)
                    raise InvalidInput(text)
                reason = f"stopped after {self._seconds:g} s"
            except (EOFError, BrokenPipeError, ConnectionResetError):
                reason = "the process that ran it has died, most likely for want of memory"
            self.close()
            self._start()
        raise InvalidInput(f"SQL: {reason}: ask for less, or run it with  metaquery sql")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_answer, args=(self._source, other), daemon=True)
        self._process.start()
        other.close()


def answer(corpus: Corpus, query: str) -> str:
    """What `Answers.ask` gives for `query`."""
    import json

    from metaquery.result import Result

    found = corpus.sql(_limited(query))
    shown = Result(found.arrow().slice(0, MAX_ROWS))
    columns, cut = json.dumps(found.columns), json.dumps(len(found) > MAX_ROWS)
    return f'{{"columns": {columns}, "cut": {cut}, "rows": {shown.write("json")}}}'


def _answer(source: str, pipe: Connection[Any, Any]) -> None:
    """Answer what comes through `pipe` until its other end is closed."""
    from metaquery.corpus import open as open_corpus

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's: it ends this process
    corpus = open_corpus(source)
    while True:
        try:
            query = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, answer(corpus, query)))
        except MedCurvesError as error:
            pipe.send((False, str(error)))


def _limited(query: str) -> str:
    """`query` without the rows that nobody would see, and with distinct column names, where it is one SELECT."""
    import duckdb

    limited = f"SELECT * FROM (\n{query.strip().rstrip(';')}\n) LIMIT {MAX_ROWS + 1}"
    try:
        kinds = [[statement.type.name for statement in duckdb.extract_statements(text)] for text in (query, limited)]
    except (duckdb.Error, ValueError):  # it says what is wrong when it is run
        return query
    return limited if kinds == [["SELECT"], ["SELECT"]] else query
