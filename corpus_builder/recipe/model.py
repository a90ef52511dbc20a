"""Backbone plus classification head."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from corpus_builder.backbones.spec import BackboneSpec
from corpus_builder.backbones.stages import Backbone
from corpus_builder.backbones.weights import build
from metaquery.space import Config


class Classifier(nn.Module):
    """Features, dropout, one linear layer."""

    def __init__(self, backbone: Backbone, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(backbone.feature_dim, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, n_classes) of a normalised batch (n, in_channels, *spatial)."""
        logits: Tensor = self.head(self.backbone(x))
        return logits


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
    return model
