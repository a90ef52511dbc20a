"""A study of seconds: a few phantoms at a tiny size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def write_study(path: Path, **changes: Any) -> Path:
    """Write a study of 6 trials of 3 epochs; `changes` replace its entries."""
    study = {
        "name": "small",
        "version": "0",
        "datasets": ["phantom_nodules3d"],
        "backbones": ["tiny_3d.scratch"],
        "epochs": 3,
        "image_size": {"3d": [8, 8, 8]},
        "caps": {"train": 60, "val": 40, "test": 40},
        "designs": {"grid": True},
        "trials_per_unit": 1,
        **changes,
    }
    path.write_text(yaml.safe_dump(study))
    return path
