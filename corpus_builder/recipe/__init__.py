"""What a config means: how images become input, and how a model is built, optimised, regularised and scheduled."""

from corpus_builder.recipe.augmentation import Legal
from corpus_builder.recipe.averaging import AveragedModel
from corpus_builder.recipe.images import to_input, training_input
from corpus_builder.recipe.model import Classifier, build_classifier
from corpus_builder.recipe.objective import Objective
from corpus_builder.recipe.optimization import Schedule, build_optimizer, set_rate
from corpus_builder.recipe.stochastic import random_layers
from corpus_builder.recipe.stream import Draw, Stream

__all__ = [
    "AveragedModel",
    "Classifier",
    "Draw",
    "Legal",
    "Objective",
    "Schedule",
    "Stream",
    "build_classifier",
    "build_optimizer",
    "random_layers",
    "set_rate",
    "to_input",
    "training_input",
]
