"""Meta-features: measured descriptors of the training part of a dataset."""

from corpus_builder.metafeatures.descriptors import DESCRIPTORS
from corpus_builder.metafeatures.measure import measure

__all__ = ["DESCRIPTORS", "measure"]
