"""Comparing optimizers: protocols, measures, and `evaluate`, which runs and summarises the studies."""

from metaquery.evaluation.compare import evaluate
from metaquery.evaluation.histories import history
from metaquery.evaluation.outcome import Evaluation

__all__ = ["Evaluation", "evaluate", "history"]
