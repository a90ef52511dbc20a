"""`corpus-builder datasets fetch` against a real server on this machine; nothing leaves it."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from conftest import assert_one_line_error
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus_builder.datasets.archive import locate
from corpus_builder.datasets.cards import Card, DataFile, cards_root, read_front_matter
from corpus_builder.datasets.fetch import fetch
from corpus_builder.datasets.transfers import Transfers
from metaquery.errors import InvalidData, InvalidInput

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


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, which take no time here."""
    waited: list[float] = []
    monkeypatch.setattr("corpus_builder.datasets.download.sleep", waited.append)
    return waited


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


def test_file_is_fetched_once_and_then_verified_and_left(site: Site, card: Card, tmp_path: Path) -> None:
    site.answers["/data.npz"] = [Answer()]
    watcher = Listener()
    toy = of(card, f"{site.root}/data.npz")
    assert fetch(toy, tmp_path / "new", watcher) == {"toy/data.npz": True}
    assert_whole(tmp_path / "new")
    assert locate(toy, toy.files[0], tmp_path / "new").stat().st_mode & 0o777 == 0o666 & ~umask()
    assert watcher.seen[-1] == (len(CONTENT), len(CONTENT))
    assert watcher.lines == [f"toy/data.npz: from {site.root}/data.npz"]
    assert not get(toy, tmp_path / "new")
    assert len(site.requests) == 1


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_sha256_is_checked_where_the_card_has_it(site: Site, card: Card, tmp_path: Path) -> None:
    site.answers["/a"] = [Answer()]
    file = DataFile("toy/data.npz", sha256=hashlib.sha256(CONTENT).hexdigest(), urls=(f"{site.root}/a",))
    assert get(replace(card, files=(file,)), tmp_path)
    other = replace(file, path="toy/other.npz", sha256="0" * 64)
    with pytest.raises(InvalidInput, match="not that of the card"):
        get(replace(card, files=(other,)), tmp_path)
    assert_whole(tmp_path)


@pytest.mark.usefixtures("waits")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(0, len(CONTENT) - 1), max_size=6, unique=True).map(sorted),
    ranges=st.booleans(),
    dated=st.booleans(),
)
def test_cut_connections_do_no_harm(
    site: Site, card: Card, tmp_path_factory: Any, cuts: list[int], ranges: bool, dated: bool
) -> None:
    """Wherever a connection is cut, the file is made whole, and what is there is not asked for again."""
    root, site.requests = tmp_path_factory.mktemp("root"), []
    plain = Answer(ranges=ranges)
    if dated:
        date = {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
        plain = replace(plain, etag="", headers=date, honours_if_range=False)
    site.answers["/a"] = [*(replace(plain, cut=cut) for cut in cuts), plain]
    assert get(of(card, f"{site.root}/a"), root)
    assert_whole(root)
    assert site.ranges == [None, *(f"bytes={cut}-" if cut else None for cut in cuts)]


def test_going_on_in_another_process(site: Site, card: Card, tmp_path: Path, waits: list[float]) -> None:
    site.answers["/a"] = [Answer(cut=60_000), Answer(status=403)]
    toy = of(card, f"{site.root}/a")
    with pytest.raises(InvalidInput, match="403 Forbidden"):
        get(toy, tmp_path)
    assert names(tmp_path) == ["data.npz.partial", "data.npz.partial.json"]
    assert waits == [1.0]
    site.answers["/a"] = [Answer()]
    assert get(toy, tmp_path)
    assert_whole(tmp_path)
    assert site.requests[-1][1]["Range"] == "bytes=60000-"
    assert site.requests[-1][1]["If-Range"] == '"one"'


def test_killed_while_downloading(site: Site, tmp_path: Path) -> None:
    halfway = threading.Event()
    site.answers["/a"] = [Answer(cut=50_000, wait_for=halfway), Answer()]
    card = written(tmp_path, f"{site.root}/a")
    line = [Path(sys.executable).with_name("corpus-builder"), "datasets", "fetch", card, "--data-root", tmp_path]
    with subprocess.Popen(line, stderr=subprocess.DEVNULL) as process:
        partial = tmp_path / "toy" / "data.npz.partial"
        for _ in range(1000):
            if partial.is_file() and partial.stat().st_size > 0:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    halfway.set()
    assert not (tmp_path / "toy" / "data.npz").exists()
    kept = partial.stat().st_size
    assert kept > 0
    subprocess.run(line, check=True, capture_output=True)
    assert (tmp_path / "toy" / "data.npz").read_bytes() == CONTENT
    assert site.ranges == [None, f"bytes={kept}-"]


@pytest.mark.parametrize("honours_if_range", [True, False])
def test_content_that_changes_between_the_halves_starts_again(
    site: Site, card: Card, tmp_path: Path, waits: list[float], honours_if_range: bool
) -> None:
    old = bytes(len(CONTENT))
    site.answers["/a"] = [
        Answer(old, etag='"old"', cut=60_000),
        Answer(honours_if_range=honours_if_range),
    ]
    assert get(of(card, f"{site.root}/a"), tmp_path)
    assert_whole(tmp_path)
    assert site.ranges == [None, "bytes=60000-", *([] if honours_if_range else [None])]


@pytest.mark.usefixtures("waits")
def test_content_that_became_shorter_starts_again(site: Site, card: Card, tmp_path: Path) -> None:
    site.answers["/a"] = [Answer(bytes(200_000), cut=150_000), Answer(honours_if_range=False)]
    assert get(of(card, f"{site.root}/a"), tmp_path)
    assert_whole(tmp_path)
    assert site.ranges == [None, "bytes=150000-", None]


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_validator_it_starts_again(site: Site, card: Card, tmp_path: Path, etag: str) -> None:
    site.answers["/a"] = [Answer(etag=etag, cut=60_000), Answer(etag=etag)]
    assert get(of(card, f"{site.root}/a"), tmp_path)
    assert site.ranges == [None, None]


@pytest.mark.usefixtures("waits")
def test_damaged_leftovers_are_not_used(site: Site, card: Card, tmp_path: Path) -> None:
    site.answers["/a"] = [Answer()]
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "data.npz.partial").write_bytes(b"something else")
    (tmp_path / "toy" / "data.npz.partial.json").write_text('{"url": ')
    assert get(of(card, f"{site.root}/a"), tmp_path)
    assert_whole(tmp_path)
    assert site.ranges == [None]


def test_addresses_are_tried_in_order(site: Site, card: Card, tmp_path: Path) -> None:
    site.answers["/wrong"] = [Answer(b"<html>log in</html>")]
    site.answers["/good"] = [Answer()]
    toy = of(card, f"{site.root}/gone", f"{site.root}/wrong", f"{site.root}/good", f"{site.root}/never")
    watcher = Listener()
    fetch(toy, tmp_path, watcher)
    assert_whole(tmp_path)
    assert [path for path, _ in site.requests] == ["/gone", "/wrong", "/good"]
    assert f"{site.root}/gone: 404 Not Found" in watcher.lines
    assert f"{site.root}/wrong: the content is not that of the card (md5:{MD5})" in watcher.lines


def test_an_address_that_is_cut_for_good_gives_way_to_the_next(
    site: Site, card: Card, tmp_path: Path, waits: list[float]
) -> None:
    site.answers["/a"] = [Answer(cut=60_000, ranges=False)]
    site.answers["/b"] = [Answer(etag='"other"')]
    assert get(of(card, f"{site.root}/a", f"{site.root}/b"), tmp_path)
    assert_whole(tmp_path)
    assert waits == [1.0, 2.0, 4.0, 8.0]
    assert site.requests[-1][1].get("Range") is None  # bytes of one address are not continued from another


def test_mirror_is_tried_first_as_a_data_root_and_as_a_folder_of_files(site: Site, card: Card, tmp_path: Path) -> None:
    toy = of(card, f"{site.root}/official")
    for path in ("/mirror/toy/data.npz", "/mirror/data.npz", "/official"):
        site.answers = {path: [Answer()]}
        assert get(toy, tmp_path / path[1:], mirror=f"{site.root}/mirror/")
        assert_whole(tmp_path / path[1:])
    asked = [path for path, _ in site.requests]
    assert asked[:3] == ["/mirror/toy/data.npz", "/mirror/toy/data.npz", "/mirror/data.npz"]
    assert asked[3:] == ["/mirror/toy/data.npz", "/mirror/data.npz", "/official"]
    site.answers = {"/mirror/data.npz": [Answer()]}
    assert get(of(card), tmp_path / "without any address", mirror=f"{site.root}/mirror")


def test_retry_after_is_honoured(site: Site, card: Card, tmp_path: Path, waits: list[float]) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    site.answers["/a"] = [
        Answer(b"", 429, {"Retry-After": "7"}),
        Answer(b"", 503, {"Retry-After": later}),
        Answer(b"", 503, {"Retry-After": "soon"}),
        Answer(b"", 500),
        Answer(),
    ]
    assert get(of(card, f"{site.root}/a"), tmp_path)
    assert_whole(tmp_path)
    assert waits[0] == 7
    assert 30 < waits[1] <= 40
    assert waits[2:] == [4.0, 8.0]


def test_busy_for_good_or_for_long_is_an_error(site: Site, card: Card, tmp_path: Path, waits: list[float]) -> None:
    site.answers["/a"] = [Answer(b"", 503)]
    site.answers["/b"] = [Answer(b"", 429, {"Retry-After": "86400"})]
    with pytest.raises(InvalidInput) as caught:
        get(of(card, f"{site.root}/a", f"{site.root}/b"), tmp_path)
    assert "/a: 503 Service Unavailable, 5 times in a row" in str(caught.value)
    assert "/b: 429 Too Many Requests, and asks to wait 86400 s" in str(caught.value)
    assert waits == [1.0, 2.0, 4.0, 8.0]
    assert names(tmp_path) == []


def test_offline_error_says_all_that_is_needed(card: Card, tmp_path: Path, waits: list[float]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/data.npz"
        with pytest.raises(InvalidInput) as caught:
            get(of(card, url, "http://name.invalid/data.npz"), tmp_path)
    message = str(caught.value)
    for part in ("toy/data.npz", f"{url}: Connection refused", "http://name.invalid/data.npz: ", card.source,
                 str(tmp_path / "toy" / "data.npz"), f"md5:{MD5}"):  # fmt: skip
        assert part in message
    assert "\n" not in message
    assert (waits, names(tmp_path)) == ([], [])


def test_wrong_content_leaves_nothing(site: Site, card: Card, tmp_path: Path) -> None:
    site.answers["/a"] = [Answer(CONTENT[:-1] + b"x")]
    with pytest.raises(InvalidInput, match="not that of the card"):
        get(of(card, f"{site.root}/a"), tmp_path)
    assert names(tmp_path) == []


def test_another_file_in_its_place_is_never_overwritten(site: Site, card: Card, tmp_path: Path) -> None:
    site.answers["/a"] = [Answer()]
    path = tmp_path / "toy" / "data.npz"
    path.parent.mkdir()
    path.write_bytes(b"mine")
    with pytest.raises(InvalidData, match=r"expected md5 .*remove it"):
        get(of(card, f"{site.root}/a"), tmp_path)
    assert (path.read_bytes(), site.requests) == (b"mine", [])


def test_full_disk_is_told_before_the_download(
    site: Site, card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.answers["/a"] = [Answer()]
    usage = SimpleNamespace(free=50_000)
    monkeypatch.setattr("corpus_builder.datasets.download.shutil.disk_usage", lambda _: usage)
    with pytest.raises(InvalidInput, match=r"needs 0\.1 MB more and the disk has 0\.1 MB free"):
        get(of(card, f"{site.root}/a"), tmp_path)
    assert not (tmp_path / "toy" / "data.npz").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_what_cannot_be_written_is_an_error_and_the_fetch_goes_on_later(
    site: Site, card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    site.answers["/a"] = [Answer()]

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("corpus_builder.datasets.download.os.replace", refuse)
        with pytest.raises(InvalidInput, match=f"cannot write .*data.npz: {os.strerror(number)}"):
            get(of(card, f"{site.root}/a"), tmp_path)
    assert names(tmp_path) == ["data.npz.partial", "data.npz.partial.json"]
    assert get(of(card, f"{site.root}/a"), tmp_path)
    assert_whole(tmp_path)
    assert len(site.requests) == 1  # all of it was there


def test_data_root_that_cannot_hold_files(card: Card, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match=r"cannot write .*Not a directory"):
        get(of(card, "http://127.0.0.1:9/a"), tmp_path / "file")


def test_two_fetches_at_once_are_one_download(site: Site, card: Card, tmp_path: Path) -> None:
    go_on = threading.Event()
    site.answers["/a"] = [Answer(wait_for=go_on), Answer(b"never asked for")]
    toy, watchers, new = of(card, f"{site.root}/a"), [Listener(), Listener(), Listener()], []
    threads = [threading.Thread(target=lambda w=w: new.append(fetch(toy, tmp_path, w))) for w in watchers]
    for thread in threads:
        thread.start()
    for _ in range(500):
        if sum(line.endswith("waiting") for watcher in watchers for line in watcher.lines) == 2:
            break
        time.sleep(0.01)
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert sorted(result["toy/data.npz"] for result in new) == [False, False, True]
    assert_whole(tmp_path)
    assert len(site.requests) == 1


def test_what_cannot_be_fetched(card: Card, tmp_path: Path) -> None:
    for changed, root, options, reason in (
        (of(card), tmp_path, {}, r"gives no address of toy/data\.npz: get it from a test and put it at"),
        (replace(card, files=(), folder="pictures"), tmp_path, {}, "no files to fetch: .* in the folder pictures"),
        (of(card, "http://127.0.0.1:9/a"), None, {}, "no data root given"),
        (of(card, "http://127.0.0.1:9/a"), tmp_path, {"mirror": "/tmp"}, "is not an address"),
        (of(card, "http://[bad/a"), tmp_path, {}, "Invalid IPv6 URL"),
    ):
        with pytest.raises(InvalidInput, match=reason):
            fetch(changed, root, Listener(), **options)


def written(folder: Path, *urls: str) -> Path:
    front = dict(read_front_matter(cards_root() / "head_ct_hemorrhage.md"))
    front["medcurves"] |= {"name": "toy", "files": [{"path": "toy/data.npz", "md5": MD5, "urls": list(urls)}]}
    path = folder / "toy.md"
    path.write_text(f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n")
    return path


def test_command(site: Site, tmp_path: Path, command: Callable[..., Any]) -> None:
    site.answers["/a"] = [Answer(cut=50_000), Answer()]
    card, root = written(tmp_path, f"{site.root}/a"), tmp_path / "data"
    checked = command("corpus-builder", "datasets", "check", card, "--data-root", root)
    assert f"or get it: corpus-builder datasets fetch toy --data-root {root}" in checked.stderr
    done = command("corpus-builder", "datasets", "fetch", card, "--data-root", root)
    assert (done.returncode, done.stdout) == (0, "toy/data.npz: fetched\n")
    assert done.stderr.splitlines() == [
        f"toy/data.npz: from {site.root}/a",
        f"{site.root}/a: the connection was cut after 50000 of {len(CONTENT)} bytes; trying again in 1 s",
    ]
    again = command("corpus-builder", "datasets", "fetch", card, env={"MEDCURVES_DATA": str(root)})
    assert (again.stdout, again.stderr) == ("toy/data.npz: was there\n", "")
    assert_whole(root)
    assert_one_line_error(command("corpus-builder", "datasets", "fetch", "pathmnist_65", "--data-root", root), "_64")


def test_plain_progress_is_a_line_now_and_then(
    site: Site, card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("corpus_builder.datasets.transfers._PLAIN_INTERVAL_SECONDS", 0.0)
    site.answers["/a"] = [Answer()]
    with Transfers() as transfers:
        fetch(of(card, f"{site.root}/a"), tmp_path, transfers)
    first, *others = capfd.readouterr().err.splitlines()
    assert first == f"toy/data.npz: from {site.root}/a"
    assert others[-1] == "0.1 MB of 0.1 MB"
