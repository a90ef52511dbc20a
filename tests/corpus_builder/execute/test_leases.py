"""Leases: one holder at a time, a dead one found without asking any clock for the time, and a live one left alone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from corpus_builder.execute import leases as module
from corpus_builder.execute.leases import MISSED_BEATS, LeaseLost, Leases
from metaquery.errors import InvalidInput

BEAT = 0.05


@pytest.fixture
def leases(tmp_path):
    return Leases(tmp_path / "leases")


def other_machine(monkeypatch):
    """From now on this process sees the leases there are as those of another machine, whose locks it cannot see."""
    monkeypatch.setattr(module, "_machine", lambda: "another")


def test_one_process_holds_it_until_it_gives_it_back(leases):
    assert leases.holder("unit") is None
    lease = leases.claim("unit", 0)
    assert str(leases.holder("unit")) == f"process {os.getpid()} on {os.uname().nodename}"
    assert leases.claim("unit", 0) is None
    lease.release()
    assert (leases.holder("unit"), leases.generation("unit"), leases.names()) == (None, 0, [])


def test_of_many_that_claim_at_once_one_gets_it(tmp_path):
    barrier, won = threading.Barrier(16), []

    def claim():
        own = Leases(tmp_path)
        barrier.wait()
        if (lease := own.claim("unit", 3)) is not None:
            won.append(lease)

    threads = [threading.Thread(target=claim) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    won[0].release()


def test_a_process_of_this_machine_that_was_killed_is_dead_at_once(leases):
    code = "import os, sys; from pathlib import Path; from corpus_builder.execute.leases import Leases\n"
    code += "lease = Leases(Path(sys.argv[1])).claim('unit', 0); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(leases.directory)], check=False)
    assert leases.names() == ["unit"]
    assert leases.holder("unit") is None
    lease = leases.claim("unit", leases.generation("unit"))
    assert [path.name for path in leases.directory.iterdir()] == ["unit.2"]
    lease.release()


def test_a_holder_elsewhere_is_dead_after_missed_beats_whatever_the_clocks_say(leases, monkeypatch):
    lease = leases.claim("unit", 0, BEAT)
    other_machine(monkeypatch)
    for jump in (0, 4_000_000_000):  # its file says 1970, or 2096
        os.utime(lease.path, (jump, jump))
        watcher = Leases(leases.directory)
        assert watcher.holder("unit") is not None
        time.sleep(BEAT * MISSED_BEATS * 0.5)
        assert watcher.holder("unit") is not None
        time.sleep(BEAT * MISSED_BEATS * 0.6)
        assert watcher.holder("unit") is None
    lease.release()


def test_a_holder_whose_clock_jumps_at_each_beat_lives(leases, monkeypatch):
    lease = leases.claim("unit", 0, BEAT)
    other_machine(monkeypatch)
    for beat in (1_800_000_000, 5, 4_000_000_000, 3_999_999_999, 0):
        os.utime(lease.path, (beat, beat))
        assert leases.holder("unit") is not None
        time.sleep(BEAT * MISSED_BEATS * 0.4)
        assert leases.holder("unit") is not None
    lease.release()


def test_a_lease_that_is_kept_beats_until_its_end(leases):
    lease, beats = leases.claim("unit", 0, BEAT), []
    with lease.kept(lambda: beats.append(lease.path.stat().st_mtime_ns)):
        time.sleep(BEAT * 10)
    assert len(set(beats)) == len(beats) > 2
    assert leases.names() == []


def test_one_that_was_taken_for_dead_notices(leases):
    lease = leases.claim("unit", 0)
    lease.check()
    taker = leases.claim("unit", 1)
    with pytest.raises(LeaseLost):
        lease.check()
    lease.release()  # which leaves the taker's
    taker.check()
    assert leases.generation("unit") == 2
    assert leases.claim("unit", 0) is None  # the first generation is free again, but not the unit
    taker.check()
    taker.release()
    assert leases.names() == []


def test_a_lease_without_a_word_is_one_of_an_unknown_process(leases):
    """Its process was stopped between the two."""
    leases.directory.mkdir()
    (leases.directory / "unit.1").touch()
    assert "unknown host" in str(leases.holder("unit"))


def test_a_directory_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="cannot write"):
        Leases(tmp_path / "file").claim("unit", 0)
