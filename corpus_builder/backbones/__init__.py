"""Backbones: architecture plus weights, named `architecture.weights`."""

from corpus_builder.backbones.registry import backbone_names, backbone_spec, classical_names, member_names, member_spec
from corpus_builder.backbones.spec import BackboneSpec, ClassicalSpec, Member, Normalization, Weights

__all__ = [
    "BackboneSpec",
    "ClassicalSpec",
    "Member",
    "Normalization",
    "Weights",
    "backbone_names",
    "backbone_spec",
    "classical_names",
    "member_names",
    "member_spec",
]
