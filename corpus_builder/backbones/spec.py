"""What a backbone is: a frozen record of its origin and input, and a feature extractor made of named stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from corpus_builder.backbones.stages import StagedBackbone


@dataclass(frozen=True, slots=True)
class Weights:
    """Pretrained weights: a safetensors file below the weights root, its hash, and where it comes from.

    `rename` maps a key of the file to a key of the backbone, or to None for a tensor that is not part of it (a
    classification head, a decoder).
    """

    file: str
    sha256: str
    pretrained_on: str
    licence: str
    source: str
    rename: Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Normalization:
    """How uint8 images become the input that the weights expect.

    `fixed`: (x / 255 - mean) / std per channel; `zscore`: (x - mean) / std of each sample; `max`: x / maximum of
    each sample; `percentile`: (x - q01) / (q99 - q01) of each sample, with the maximum in place of q99 where so little
    of the image is bright that both quantiles are the same.
    """

    kind: Literal["fixed", "zscore", "max", "percentile"]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channel_order: Literal["RGB", "BGR"] = "RGB"


IMAGENET = Normalization("fixed", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
UNIT_RANGE = Normalization("fixed", (0.0,) * 3, (1.0,) * 3)
CENTRED_AT_128 = Normalization("fixed", (128 / 255,) * 3, (128 / 255,) * 3)  # (x - 128) / 128


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """One backbone, named `architecture.weights`.

    `parameters` counts the feature extractor's parameters, `feature_dim` is the length of its feature vector;
    both are checked by the tests. `licence` and `source` are those of the code; `weights` carries its own.
    """

    name: str
    family: str
    n_dims: int
    in_channels: int
    feature_dim: int
    parameters: int
    normalization: Normalization
    build: Callable[[], StagedBackbone]
    licence: str
    source: str
    weights: Weights | None = None
