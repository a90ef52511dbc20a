"""Protocols: which datasets may train and validate a meta-learner, and which one tests it. Data, one YAML each."""

from metaquery.evaluation.protocols.folds import Fold, Traits, check_leakage, folds, traits
from metaquery.evaluation.protocols.protocol import Defaults, Judged, Normaliser, Protocol, protocol_names

__all__ = [
    "Defaults",
    "Fold",
    "Judged",
    "Normaliser",
    "Protocol",
    "Traits",
    "check_leakage",
    "folds",
    "protocol_names",
    "traits",
]
