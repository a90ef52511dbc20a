"""The benchmark of the builder, as it is run."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import assert_one_line_error

SMALLEST = ("--side", "8", "--cap", "24", "--trials", "2", "--epochs", "1", "--workers", "1")


def throughput(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "corpus_builder.bench", "throughput", *SMALLEST, *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)


def test_throughput_of_three_ways_to_train() -> None:
    done = throughput("--backbone", "tiny_3d.scratch")
    assert done.returncode == 0, done.stderr
    names, row = (line for line in done.stdout.splitlines()[-5:] if "per hour" in line or "tiny" in line)
    assert "".join(names.split()) == "trialsaperhourbperhourcperhourc/ac/b"
    kind, count, *numbers = row.replace(",", "").rsplit(maxsplit=6)
    assert (kind.strip(), count) == ("tiny_3d.scratch: others", "2")
    a, b, c, to_a, to_b = map(float, numbers)
    assert min(a, b, c) > 0
    assert to_a == pytest.approx(c / a, abs=0.06)
    assert to_b == pytest.approx(c / b, abs=0.06)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backbone", "tiny_3d.scratch", "--workers", "0"), "'--workers': 0 is not in the range"),
        (("--backbone", "radiomics_3d.rf"), "radiomics_3d.rf is not a network"),
    ],
)
def test_throughput_refuses(arguments: tuple[str, ...], words: str) -> None:
    assert_one_line_error(throughput(*arguments), words)
