"""What a config means: how images become input, and how a model is built, optimised and scheduled."""

from corpus_builder.recipe.images import augment, to_input
from corpus_builder.recipe.model import Classifier, build_classifier
from corpus_builder.recipe.optimization import build_optimizer, learning_rate_at

__all__ = ["Classifier", "augment", "build_classifier", "build_optimizer", "learning_rate_at", "to_input"]
