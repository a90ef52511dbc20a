"""Downloads that are cut, killed or changed on the way: nothing is lost, nothing is mixed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from file_site import CONTENT, Answer, Site, assert_whole, get, names, of, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus_builder.datasets.cards import Card
from metaquery.errors import InvalidInput


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
