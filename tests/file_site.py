"""A server of one file that answers as it is told: cuts, redirections, busy signs; and cards of that file."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from corpus_builder.datasets.cards import Card, DataFile, cards_root, read_front_matter
from corpus_builder.datasets.fetch import fetch

CONTENT = bytes(range(256)) * 400  # 102,400 bytes
MD5 = hashlib.md5(CONTENT).hexdigest()


@dataclass
class Answer:
    """How the server answers one request. `cut` is the number of bytes after which it breaks off."""

    content: bytes = CONTENT
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    etag: str = '"one"'
    ranges: bool = True
    honours_if_range: bool = True
    cut: int | None = None
    wait_for: threading.Event | None = None


class Site:
    """A server: `answers` by path, used one after another, the last one again and again; `requests` that came."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append((self.path, dict(self.headers)))
                answers = site.answers.get(self.path, [Answer(b"no such file", 404)])
                site.answer(self, answers.pop(0) if len(answers) > 1 else answers[0])

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.root = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @staticmethod
    def answer(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        start, status = 0, answer.status
        asked = handler.headers.get("Range")
        fresh = not answer.honours_if_range or handler.headers.get("If-Range") == answer.etag
        if asked and answer.ranges and status == 200 and fresh:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            status = 206 if start < len(answer.content) else 416
        body = answer.content[start:]
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        if answer.etag:
            handler.send_header("ETag", answer.etag)
        if status == 206:
            last = len(answer.content) - 1
            handler.send_header("Content-Range", f"bytes {start}-{last}/{len(answer.content)}")
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if answer.cut is not None:
            body = body[: max(0, answer.cut - start)]
        handler.wfile.write(body)
        handler.wfile.flush()
        if answer.wait_for is not None:
            answer.wait_for.wait(30)

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.requests]


class Listener:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.seen: list[tuple[int, int | None]] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def progress(self, done: int, length: int | None) -> None:
        self.seen.append((done, length))


def of(card: Card, *urls: str, md5: str = MD5) -> Card:
    return replace(card, files=(DataFile("toy/data.npz", md5=md5, urls=urls),))


def get(card: Card, root: Path, **options: Any) -> bool:
    (new,) = fetch(card, root, Listener(), **options).values()
    return new


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file())


def assert_whole(root: Path) -> None:
    """The file is there, with its content, and nothing beside it."""
    assert names(root) == ["data.npz"]
    assert (root / "toy" / "data.npz").read_bytes() == CONTENT


def written(folder: Path, *urls: str) -> Path:
    front = dict(read_front_matter(cards_root() / "head_ct_hemorrhage.md"))
    front["medcurves"] |= {"name": "toy", "files": [{"path": "toy/data.npz", "md5": MD5, "urls": list(urls)}]}
    path = folder / "toy.md"
    path.write_text(f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n")
    return path
