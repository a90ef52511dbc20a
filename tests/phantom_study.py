"""A study of seconds: a few phantoms at a tiny size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from corpus_builder.space import search_space


def grid_of(backbones: Sequence[str], **values: list[Any]) -> dict[str, list[Any]]:
    """A grid of exactly these values: every other hyperparameter of `backbones` has its default alone."""
    space = search_space(backbones)
    fixed = {hp.name: [hp.default] for hp in space.hyperparameters if hp.name != "backbone"}
    return {**fixed, **values}


def write_study(path: Path, **changes: Any) -> Path:
    """Write a study of 6 trials of 3 epochs; `changes` replace its entries.

    With other backbones its grid is the complete one.
    """
    six = grid_of(["tiny_3d.scratch"], optimizer=["adamw", "sgd"], lr=[1e-4, 1e-3, 1e-2])
    study = {
        "name": "small",
        "version": "0",
        "datasets": ["phantom_nodules3d"],
        "backbones": ["tiny_3d.scratch"],
        "epochs": 3,
        "image_size": {"3d": [8, 8, 8]},
        "caps": {"train": 60, "val": 40, "test": 40},
        "designs": {"grid": True if "backbones" in changes else six},
        "trials_per_unit": 1,
        **changes,
    }
    path.write_text(yaml.safe_dump(study))
    return path
