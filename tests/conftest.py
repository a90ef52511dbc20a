"""Fixtures that several parts of the suite share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


def _root(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set: the real files are not here")
    return Path(value)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Directory of the real datasets; the test is skipped where there is none."""
    return _root("MEDCURVES_DATA")


@pytest.fixture(scope="session")
def weights_root() -> Path:
    """Directory of the real pretrained weights; the test is skipped where there is none."""
    return _root("MEDCURVES_WEIGHTS")


@pytest.fixture(scope="session")
def curves_root() -> Path:
    """Directory of the real learning curves that others made; the test is skipped where there is none."""
    return _root("MEDCURVES_CURVES")


@pytest.fixture(autouse=True, scope="session")
def _cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's cache out of the tests, and the tests out of it; subprocesses inherit the variable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDCURVES_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run one of our console scripts as a user would: `command("corpus-builder", "plan", ...)`."""

    def run(script: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        line = [str(Path(sys.executable).with_name(script)), *map(str, arguments)]
        environment = {**os.environ, "COLUMNS": "160", **options.pop("env", {})}
        return subprocess.run(
            line, capture_output=True, text=True, timeout=300, env=environment, check=False, **options
        )

    return run


def assert_one_line_error(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """The command was refused as every bad input must be: exit code 2, one line on stderr that holds `words`."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr, (word, done.stderr)
