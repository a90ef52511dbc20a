"""`corpus-builder datasets fetch` against a real server on this machine; nothing leaves it."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import assert_one_line_error
from file_site import CONTENT, MD5, Answer, Listener, Site, assert_whole, get, names, of, written

from corpus_builder.datasets.archive import locate
from corpus_builder.datasets.cards import Card, DataFile
from corpus_builder.datasets.fetch import fetch
from corpus_builder.datasets.transfers import Transfers
from metaquery.errors import InvalidInput


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
