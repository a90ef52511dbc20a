"""Fetches that cannot be made: one clear line, and nothing left in the place of the file."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from file_site import CONTENT, MD5, Answer, Listener, Site, assert_whole, get, names, of

from corpus_builder.datasets.cards import Card
from corpus_builder.datasets.fetch import fetch
from metaquery.errors import InvalidData, InvalidInput


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
