"""All descriptors by name, in the order of their rows."""

from __future__ import annotations

from corpus_builder.metafeatures import basic, probes, spacing, texture
from corpus_builder.metafeatures.descriptor import Descriptor

MODULES = (basic, spacing, texture, probes)

DESCRIPTORS: dict[str, Descriptor] = {
    descriptor.name: descriptor for module in MODULES for descriptor in module.DESCRIPTORS
}
