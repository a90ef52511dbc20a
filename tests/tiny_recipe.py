"""Configs, models and data so small that tests of the recipe train in an instant."""

from __future__ import annotations

import numpy as np
import torch

from corpus_builder.backbones import backbone_spec
from corpus_builder.recipe import Classifier, build_classifier
from corpus_builder.space import search_space
from corpus_builder.train.records import Part, TrialData, TrialResult, TrialSpec
from corpus_builder.train.trial import run_trial
from metaquery.space import Config

NAME = "tiny_2d.scratch"
_SPACE = search_space(["shufflenetv2_x0_5.imagenet"])


def tiny_config(**values) -> Config:
    """The config `values` of the tiny net, with all that only pretrained backbones have: a seed stands for a file."""
    return Config({**_SPACE.complete(values), "backbone": NAME})


def tiny_model(seed: int = 0, n_classes: int = 3, **values) -> Classifier:
    """The classifier of `tiny_config(**values)`, with random weights of `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_classifier(backbone_spec(NAME), tiny_config(**values), n_classes, None)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers of `seed`."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny_data(n=48, side=12, seed=0, **legal) -> TrialData:
    """Discs whose brightness tells which of two classes, of which one is three times as frequent, in noise."""
    rng = np.random.default_rng(seed)

    def part(count):
        labels = (np.arange(count) % 4 == 0).astype(np.int64)
        images = rng.normal(60, 40, (count, 1, side, side))
        images[:, :, side // 4 : -side // 4, side // 4 : -side // 4] += 60.0 * labels.reshape(-1, 1, 1, 1)
        return Part(np.clip(images, 0, 255).astype(np.uint8), labels)

    return TrialData(part(n), part(n // 2), part(n // 2), 2, **legal)


def tiny_trial(data=None, epochs=3, seed=0, repeated=None, **values) -> TrialResult:
    """The result of training `tiny_config(**values)` on the CPU."""
    spec = TrialSpec("made", "key", 0, tiny_config(**values), seed, epochs)
    return run_trial(spec, data or tiny_data(), torch.device("cpu"), None, repeated=repeated)


def curve(result: TrialResult) -> list[tuple[float, float, float]]:
    """What must be equal where two trials are."""
    return [(row["train_loss"], row["val_loss"], row["test_loss"]) for row in result.epochs]
