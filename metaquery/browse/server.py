"""The server behind the page: loopback only, read-only, and for nobody but the page itself."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from metaquery.browse.answers import MAX_ROWS, Answers
from metaquery.drawing.theme import stylesheet
from metaquery.errors import InvalidInput, MedCurvesError

HOST = "127.0.0.1"

_HERE = Path(__file__).parent
_FILES = {
    "/": ("page.html", "text/html"),
    "/browse.css": ("browse.css", "text/css"),
    "/browse.js": ("browse.js", "text/javascript"),
    "/chart.js": ("chart.js", "text/javascript"),
}
_THEME, _ABOUT, _SQL = "/theme.css", "/corpus.json", "/sql"
_MAX_QUERY_BYTES = 1 << 16
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class PageServer(ThreadingHTTPServer):
    """Serves the page of the corpus `source` on a port of this machine; 0 stands for any that is free.

    Raises InvalidInput where the port cannot be had, and what opening the corpus raises.
    """

    daemon_threads = True

    def __init__(self, source: str, port: int) -> None:
        self.about = about(source)
        if not 0 <= port < 1 << 16:
            raise InvalidInput(f"a port is a number from 0 to 65535, got {port}")
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            reason = "in use" if error.errno == errno.EADDRINUSE else "not allowed for you"
            raise InvalidInput(f"port {port} is {reason}: give another one, or --port 0 for any that is free") from None
        self.answers = Answers(source)

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"

    def server_close(self) -> None:
        """Free the port and end the process that answers queries."""
        super().server_close()
        if hasattr(self, "answers"):  # the base class closes itself where it cannot have the port
            self.answers.close()


def serve(source: str, port: int, say: Callable[[str], None]) -> None:
    """Serve the page of the corpus `source` until Ctrl-C; `say` is told where it is. Raises as `PageServer` does."""
    with PageServer(source, port) as server:
        try:
            say(f"{server.about['name']} is at {server.address}  (Ctrl-C stops it)")
            server.serve_forever()
        except KeyboardInterrupt:
            say("stopped")


def about(source: str) -> dict[str, Any]:
    """What the page needs to know of a corpus before it can ask: names, metric, columns, named queries."""
    from metaquery.corpus import open as open_corpus
    from metaquery.queries import named_queries
    from metaquery.schema.tables import TABLE_NAMES
    from metaquery.views import NEEDS

    corpus = open_corpus(source)
    columns = {name: corpus.sql(f"FROM {name} LIMIT 0").columns for name in (*TABLE_NAMES, *NEEDS)}
    return {
        "name": corpus.name,
        "version": corpus.version,
        "hash": corpus.hash,
        "metric": corpus.default_metric,
        "epochs": corpus.epochs,
        "max_rows": MAX_ROWS,
        "datasets": corpus.datasets,
        "backbones": sorted(corpus.table("backbones", ["backbone"])["backbone"].to_pylist()),
        "columns": columns,
        "queries": [{"name": q.name, "question": q.question, "sql": q.sql} for q in named_queries().values()],
    }


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    server_version, sys_version = "metaquery", ""
    timeout = 60.0

    def do_GET(self) -> None:
        if not self._trusted():
            return
        if self.path == _ABOUT:
            self._send(200, "application/json", json.dumps(self.server.about).encode())
        elif self.path == _THEME:
            self._send(200, "text/css", stylesheet().encode())
        elif self.path in _FILES:
            name, kind = _FILES[self.path]
            self._send(200, kind, (_HERE / name).read_bytes())
        else:
            self._refuse(404, f"there is no {self.path}")

    def do_POST(self) -> None:
        self.close_connection = True  # what is left of a refused body must not be read as a request
        if not self._trusted():
            return
        length = self.headers.get("Content-Length", "")
        if self.path != _SQL:
            self._refuse(405 if self.path in (*_FILES, _THEME, _ABOUT) else 404, f"expected a query at {_SQL}")
        # A page of another site can send this type only where it is allowed to, and it is not.
        elif self.headers.get("Content-Type", "") != "application/json":
            self._refuse(415, "expected a query as application/json")
        elif not length.isdecimal() or int(length) > _MAX_QUERY_BYTES:
            self._refuse(413, f"expected a query of at most {_MAX_QUERY_BYTES} bytes")
        else:
            self._answer(self.rfile.read(int(length)))

    def _answer(self, body: bytes) -> None:
        try:
            query = json.loads(body)["sql"]
            if not isinstance(query, str):
                raise TypeError
        except (ValueError, TypeError, KeyError):
            self._refuse(400, 'expected {"sql": "select ..."}')
            return
        try:
            self._send(200, "application/json", self.server.answers.ask(query).encode())
        except MedCurvesError as error:
            self._refuse(400, str(error))

    def _trusted(self) -> bool:
        """Whether the request is for this page by its own name: a name that was rebound to this machine is not."""
        port = self.server.server_port
        own = {f"{HOST}:{port}", f"localhost:{port}"}
        origin = self.headers.get("Origin")
        if self.headers.get("Host") in own and (origin is None or origin.removeprefix("http://") in own):
            return True
        self.close_connection = True
        self._refuse(403, f"this page is for {self.server.address} only")
        return False

    def _refuse(self, status: int, reason: str) -> None:
        self._send(status, "text/plain", reason.encode())

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *_: object) -> None:
        """Say nothing: the terminal is for the address and for errors."""
