"""Surrogates: whole learning curves of any config, learned from the trials of a corpus."""

from metaquery.surrogates.model import Surrogate
from metaquery.surrogates.training import train

__all__ = ["Surrogate", "train"]
