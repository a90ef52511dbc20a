"""A package that is not installed is named with the line that installs it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from metaquery.errors import MissingExtra
from metaquery.interop.optuna import objective
from metaquery.interop.syne_tune import blackbox
from metaquery.testing import SyntheticBenchmark


@pytest.mark.parametrize(
    ("adapter", "module", "extra"), [(objective, "optuna", "optuna"), (blackbox, "syne_tune", "syne-tune")]
)
def test_missing_packages(
    adapter: Callable[..., Any], module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"{extra} is not installed: run  pip install 'medcurves\[{extra}\]'"):
        adapter(SyntheticBenchmark())
