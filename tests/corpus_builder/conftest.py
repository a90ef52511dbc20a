"""One thread each, as the trainer itself: the suite runs in two processes on two cores."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from phantom_study import grid_of, write_study


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def sealed(tmp_path_factory, command) -> Path:
    """A corpus of four phantom trials of three epochs that the real commands made, without any pretrained weights."""
    root = tmp_path_factory.mktemp("phantoms")
    grid = grid_of(["tiny_3d.scratch"], lr=[1e-3, 1e-2], optimizer=["adamw", "momentum"], ema=[0.9])
    study = write_study(root / "study.yaml", designs={"grid": grid}, trials_per_unit=4)
    for line in (
        ("plan", study, "--out", root / "plan.parquet"),
        ("run", root / "plan.parquet", "--run-dir", root / "run"),
        ("seal", root / "run", "--out", root / "corpus"),
    ):
        done = command("corpus-builder", *line, env={"MEDCURVES_WEIGHTS": ""})
        assert done.returncode == 0, done.stderr
    return root / "corpus"
