"""Predictions and metrics of a model on resident data."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from corpus_builder.backbones.spec import BackboneSpec
from corpus_builder.recipe import Classifier, to_input
from corpus_builder.train.device import mixed_precision
from corpus_builder.train.records import Part
from metaquery.metrics import compute_all

BATCH = 128


class Resident:
    """A part of the data on the device: uint8 images and labels.

    `kept` is what frozen stages make of the images, (n, ...), where it is worth keeping (`train.activations`).
    """

    def __init__(self, part: Part, device: torch.device) -> None:
        self.images = torch.from_numpy(part.images).to(device)
        self.labels = torch.from_numpy(part.labels).to(device)
        self.truth = part.labels
        self.kept: Tensor | None = None

    def __len__(self) -> int:
        return len(self.truth)


@torch.no_grad()
def predict(model: Classifier, part: Resident, spec: BackboneSpec, limit: int | None = None) -> NDArray[np.float32]:
    """Class probabilities (n, n_classes) of `part`, or of its first `limit` batches, in evaluation mode."""
    model.eval()
    probabilities = []
    for batch in (part.images if part.kept is None else part.kept).split(BATCH)[:limit]:
        with mixed_precision(part.images.device):
            if part.kept is None:
                logits = model(to_input(batch.to(torch.get_default_dtype()), spec))
            else:
                logits = model.tail(batch).logits
        probabilities.append(logits.to(torch.get_default_dtype()).softmax(dim=1))
    return torch.cat(probabilities).float().cpu().numpy()


def evaluate(y_true: NDArray[np.int64], y_prob: NDArray[np.float32], split: str) -> dict[str, float | None]:
    """Every metric of `y_prob` (n, n_classes) as `SPLIT_METRIC`, None where it is not defined."""
    values = compute_all(y_true, y_prob.astype(np.float64))
    return {f"{split}_{name}": value if math.isfinite(value) else None for name, value in values.items()}
