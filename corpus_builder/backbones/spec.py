"""What a backbone is: a frozen record of its origin and input, and a feature extractor made of named stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metaquery.types import EPOCHLESS_FAMILY

if TYPE_CHECKING:
    from torch import Tensor

    from corpus_builder.backbones.stages import Backbone


HUB = "huggingface:"


@dataclass(frozen=True, slots=True)
class Weights:
    """Pretrained weights: a file below the weights root, its hash, and where it comes from.

    The file is safetensors, or a torch file of which only tensors are read. `sha256` is empty where no published
    hash is known: then any file is taken, and its own hash is what gets recorded. `rename` maps a key of the file to a
    key of the backbone, or to None for a tensor that is not part of it (a classification head, a decoder); `adapt`
    turns the renamed tensors into those of a backbone whose shapes differ from the file's. `other_files` are names that
    the file may have instead. A `source` on the Hugging Face Hub is HUB followed by the repository: from there
    `corpus-builder backbones fetch` gets the file, under its own name.
    """

    file: str
    sha256: str
    pretrained_on: str
    licence: str
    source: str
    rename: Callable[[str], str | None]
    adapt: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None
    other_files: tuple[str, ...] = ()


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
    `input_size` is what the weights were trained at, None for random weights and for nets that saw many sizes;
    `min_size` is the smallest side that every stage accepts. A family whose nets have parameters that depend on the
    input's spatial shape (position embeddings) also has `build_sized(shape, tensors)`: the net for that shape, with the
    tensors of its weights file, or with random weights for None; InvalidData where the tensors do not fit.
    """

    name: str
    family: str
    n_dims: int
    in_channels: int
    feature_dim: int
    parameters: int
    normalization: Normalization
    build: Callable[[], Backbone]
    licence: str
    source: str
    weights: Weights | None = None
    input_size: tuple[int, ...] | None = None
    min_size: int = 1
    build_sized: Callable[[tuple[int, ...], Mapping[str, Tensor] | None], Backbone] | None = None

    def build_for(self, size: tuple[int, ...]) -> Backbone:
        """The net for inputs of the spatial shape `size`, with random weights."""
        return self.build() if self.build_sized is None else self.build_sized(size, None)


Classifier = Literal["logreg", "rf", "svm"]


@dataclass(frozen=True, slots=True)
class ClassicalSpec:
    """A member of the portfolio that is no network: a classifier on hand-crafted features, named `features.classifier`.

    It has no weights and no epochs: a trial fits it whole, and its curve is one row (see `corpus_builder.radiomics`).
    """

    name: str
    n_dims: int
    classifier: Classifier
    licence: str
    source: str
    family: str = EPOCHLESS_FAMILY


Member = BackboneSpec | ClassicalSpec
