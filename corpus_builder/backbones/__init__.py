"""Backbones: architecture plus weights, named `architecture.weights`."""

from corpus_builder.backbones.registry import backbone_names, backbone_spec
from corpus_builder.backbones.spec import BackboneSpec, Normalization, Weights

__all__ = ["BackboneSpec", "Normalization", "Weights", "backbone_names", "backbone_spec"]
