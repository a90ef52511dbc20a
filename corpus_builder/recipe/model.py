"""Backbone plus classification head."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from corpus_builder.backbones.spec import BackboneSpec
from corpus_builder.backbones.stages import Backbone
from corpus_builder.backbones.weights import build
from corpus_builder.recipe.stochastic import Dropout, with_stochastic_norm
from metaquery.space import Config


class Activations(NamedTuple):
    """What a model computes on the way: `logits` (n, n_classes), `features` (n, d) and the `outputs` of the stages that
    are not frozen, (n, channels, ...) each."""

    logits: Tensor
    features: Tensor
    outputs: list[Tensor]


class Classifier(nn.Module):
    """Features, dropout, one linear layer."""

    def __init__(self, backbone: Backbone, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.backbone = backbone
        self.head = nn.Sequential(Dropout(dropout, backbone.feature_dim), nn.Linear(backbone.feature_dim, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, n_classes) of a normalised batch (n, in_channels, *spatial)."""
        return self.tail(self.backbone.trunk(x)).logits

    def tail(self, x: Tensor) -> Activations:
        """Everything that a loss may look at, from the output `x` of the backbone's frozen stages on."""
        outputs, features = self.backbone.tail(x)
        return Activations(self.head(features), features, outputs)


def build_classifier(
    spec: BackboneSpec,
    config: Config,
    n_classes: int,
    weights_root: Path | None,
    size: tuple[int, ...] | None = None,
) -> Classifier:
    """The model of `config` for images of the spatial shape `size`, by default that of the weights.

    Random parts are drawn from torch's global generator.
    """
    model = Classifier(build(spec, weights_root, size), n_classes, float(config["dropout"]))
    model.backbone.freeze(float(config.get("freeze", 0.0)))
    if (p := float(config.get("stochastic_norm", 0.0))) > 0:
        with_stochastic_norm(model.backbone, p)
    return model
