"""The public surface of metaquery: exactly these names, and an import that costs next to nothing."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import metaquery as mq

HEAVY = (
    "torch",
    "pandas",
    "sklearn",
    "matplotlib",
    "duckdb",
    "pyarrow",
    "polars",
    "zarr",
    "ConfigSpace",
    "corpus_builder",
)


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_exported_names() -> None:
    assert mq.__all__ == [
        "Budget",
        "Config",
        "Corpus",
        "Curve",
        "Evaluation",
        "MedCurvesError",
        "Observation",
        "Optimizer",
        "Result",
        "SearchSpace",
        "Status",
        "Suggestion",
        "Trajectory",
        "evaluate",
        "open",
        "optimizer",
        "run",
    ]


@pytest.mark.parametrize("name", mq.__all__)
def test_every_name_can_be_had(name: str) -> None:
    assert run(f"import metaquery as mq; print(callable(mq.{name}) or mq.{name} is not None)") == "True"
    assert name in dir(mq)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = mq.nonsense


def test_import_is_light() -> None:
    loaded = run(f"import metaquery, sys; print([m for m in {HEAVY} if m in sys.modules])")
    assert loaded == "[]"


def test_import_is_fast() -> None:
    """Under 0.15 s by itself; the best of five, as other work may run on the machine."""
    code = "import time; t = time.perf_counter(); import metaquery; print(time.perf_counter() - t)"
    assert min(float(run(code)) for _ in range(5)) < 0.15


def test_opening_reads_no_table(tmp_path_factory: pytest.TempPathFactory, corpus_path: object) -> None:
    loaded = run(
        f"import metaquery as mq, sys; mq.open({str(corpus_path)!r}); print([m for m in {HEAVY} if m in sys.modules])"
    )
    assert loaded == "[]"


def test_help_needs_nothing_heavy() -> None:
    started = time.perf_counter()
    code = f"""
import sys
from click.testing import CliRunner
from metaquery.cli import cli
assert CliRunner().invoke(cli, ["--help"]).exit_code == 0
print([m for m in {HEAVY} if m in sys.modules])
"""
    assert run(code) == "[]"
    assert time.perf_counter() - started < 30
