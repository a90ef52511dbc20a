"""A Hugging Face Hub for tests: dataset repositories in memory behind the real protocol, with faults to order."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


@dataclass
class Hub:
    """Repositories by name, and what the server is to do wrong.

    `limited` requests to come are answered with 429 and `retry_after`; of a file in `cut`, the next download ends after
    that many bytes; `down` breaks every connection. `seen` are the requests: method, path and headers.
    """

    token: str | None = None
    limited: int = 0
    retry_after: str = "0"
    cut: dict[str, int] = field(default_factory=dict)
    down: bool = False
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    commits: dict[str, dict[str, Files]] = field(default_factory=dict)
    refs: dict[str, dict[str, str]] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    url: str = ""

    def commit(self, repo: str, files: Files, revision: str = "main") -> str:
        """Make `files` the content of a branch; returns the commit."""
        known = self.commits.setdefault(repo, {})
        sha = hashlib.sha1(f"{repo} {len(known)}".encode()).hexdigest()
        known[sha] = dict(files)
        self.refs.setdefault(repo, {})[revision] = sha
        return sha

    def files(self, repo: str, revision: str = "main") -> Files:
        """The files of a branch or commit."""
        return self.commits[repo][self.refs[repo].get(revision, revision)]

    def downloads(self) -> Counter[str]:
        """How often each file was asked for."""
        return Counter(path.split("/", 6)[6] for method, path, _ in self.seen if "/resolve/" in path)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, content: bytes = b"", cut: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:cut])
        if cut is not None:
            self.close_connection = True

    def _json(self, document: Any, status: int = 200, **headers: str) -> None:
        self._answer(status, json.dumps(document).encode(), Content_Type="application/json", **headers)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _handle(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        body = self._body()
        hub.seen.append((self.command, path, dict(self.headers)))
        if hub.down:
            self.close_connection = True
        elif hub.limited:
            hub.limited -= 1
            self._json({"error": "slow down"}, 429, Retry_After=hub.retry_after)
        elif hub.token and self.headers.get("Authorization") not in (f"Bearer {hub.token}", None):
            self._json({"error": "Invalid credentials"}, 401)
        elif self.command in ("GET", "HEAD"):
            self._read(path)
        else:
            self._write(path, body)

    do_GET = do_HEAD = do_POST = do_PUT = _handle

    def _read(self, path: str) -> None:
        hub, parts = self.hub, path.strip("/").split("/")
        repo = "/".join(parts[2:4] if parts[0] == "api" else parts[1:3])
        if repo not in hub.commits:
            self._json({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
            return
        revision = parts[5] if parts[0] == "api" and len(parts) > 5 else parts[4] if parts[0] == "datasets" else "main"
        sha = hub.refs[repo].get(revision, revision)
        if sha not in hub.commits[repo]:
            self._json({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound")
            return
        files = hub.commits[repo][sha]
        if parts[0] == "datasets":
            self._file(files, "/".join(parts[5:]), sha)
        elif "tree" in parts:
            self._json(
                [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in files.items()]
            )
        else:
            siblings = [{"rfilename": name} for name in files]
            self._json({"id": repo, "sha": sha, "siblings": siblings, "private": False, "tags": [], "downloads": 0})

    def _file(self, files: Files, name: str, sha: str) -> None:
        if name not in files:
            self._json({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
            return
        whole = files[name]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        headers = {"ETag": f'"{hashlib.sha256(whole).hexdigest()}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        self._answer(206 if start else 200, whole[start:], self.hub.cut.pop(name, None), **headers)

    def _write(self, path: str, body: bytes) -> None:
        hub, parts = self.hub, path.strip("/").split("/")
        if path.startswith("/store/"):
            hub.stored[parts[1]] = body
            self._answer(200)
            return
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._json({"error": "Unauthorized"}, 401)
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            wanted = json.loads(body)
            repo = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
            if repo in hub.commits:
                self._json({"error": "exists", "url": f"{hub.url}/datasets/{repo}"}, 409)
            else:
                hub.commit(repo, {})
                self._json({"url": f"{hub.url}/datasets/{repo}"})
        elif "preupload" in parts:
            named = json.loads(body)["files"]
            modes = {True: "lfs", False: "regular"}
            self._json(
                {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": modes[file["path"].endswith((".parquet", ".zip"))],
                            "shouldIgnore": False,
                        }
                        for file in named
                    ]
                }
            )
        elif path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**item, "actions": {"upload": {"href": f"{hub.url}/store/{item['oid']}", "header": {}}}}
                for item in json.loads(body)["objects"]
            ]
            self._json({"objects": objects, "transfer": "basic"})
        else:
            self._commit("/".join(parts[2:4]), body)

    def _commit(self, repo: str, body: bytes) -> None:
        files = dict(self.hub.files(repo))
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        sha = self.hub.commit(repo, files)
        url = f"{self.hub.url}/datasets/{repo}/commit/{sha}"
        self._json({"success": True, "commitOid": sha, "commitUrl": url})


@contextmanager
def serving(**options: Any) -> Iterator[Hub]:
    """A running Hub."""
    hub = Hub(**options)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
