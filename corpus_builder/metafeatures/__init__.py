"""Meta-features: measured descriptors of the training part of a dataset."""

from corpus_builder.metafeatures.measure import Measurement, measure, undefined_notes
from corpus_builder.metafeatures.part import TrainingPart
from corpus_builder.metafeatures.registry import DESCRIPTORS

__all__ = ["DESCRIPTORS", "Measurement", "TrainingPart", "measure", "undefined_notes"]
