"""Trials that train nothing: what is left is the builder's own work."""

from __future__ import annotations

from typing import Any

import numpy as np
from phantom_study import grid_of

from corpus_builder.train.records import TrialData, TrialResult, TrialSpec
from metaquery.metrics import METRICS
from metaquery.schema.predictions import SPLITS, checkpoint_epochs
from metaquery.types import Status


def instant_trial(spec: TrialSpec, data: TrialData, place: object) -> TrialResult:
    """A completed trial with made-up curves and probabilities; the same spec gives the same."""
    rng = np.random.default_rng(int(spec.trial_id, 16))
    values = rng.random((spec.epochs, 2 * len(METRICS) + 4), dtype=np.float32).tolist()
    names = [f"{split}_{metric}" for split in SPLITS for metric in METRICS]
    epochs: list[dict[str, Any]] = [
        {
            "epoch": epoch,
            "learning_rate": row[0],
            "train_loss": row[1],
            **dict(zip(names, row[2:-2], strict=True)),
            "train_seconds": row[-2],
            "eval_seconds": row[-1],
        }
        for epoch, row in enumerate(values, start=1)
    ]
    result = TrialResult(Status.COMPLETED, epochs=epochs, total_seconds=1.0, device="none")
    probabilities = {}
    for split, part in (("val", data.val), ("test", data.test)):
        p = rng.random((len(part.labels), data.n_classes), dtype=np.float32)
        probabilities[split] = p / p.sum(axis=1, keepdims=True)
    result.predictions = dict.fromkeys(checkpoint_epochs([row["val_auc"] for row in epochs]), probabilities)
    return result


def wide_study(**changes: Any) -> dict[str, Any]:
    """A study of 1,000 trials: 5 learning rates x 4 decays x 5 dropouts x 5 smoothings x 2 seeds."""
    return {
        "backbones": ["tiny_3d.scratch"],
        "image_size": {"3d": [16, 16, 16]},
        "designs": {
            "grid": grid_of(
                ["tiny_3d.scratch"],
                lr=[1e-4, 3e-4, 1e-3, 3e-3, 1e-2],
                weight_decay=[1e-5, 1e-4, 1e-3, 1e-2],
                dropout=[0.0, 0.1, 0.2, 0.3, 0.4],
                label_smoothing=[0.0, 0.05, 0.1, 0.15, 0.2],
            )
        },
        "seeds": [0, 1],
        "trials_per_unit": 16,
        **changes,
    }
