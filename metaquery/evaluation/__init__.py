"""Comparing optimizers: protocols, measures, and `evaluate`, which runs and summarises the studies."""

from metaquery.evaluation.evaluate import evaluate
from metaquery.evaluation.evaluation import Evaluation

__all__ = ["Evaluation", "evaluate"]
