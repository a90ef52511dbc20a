"""MedCurves, the reading side: open a corpus, query it with SQL, benchmark optimizers on it, compare them.

Names are loaded on first use, so that `import metaquery` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metaquery.corpus import Corpus, open
    from metaquery.errors import MedCurvesError
    from metaquery.evaluation import Evaluation, evaluate
    from metaquery.optimizers import Optimizer, optimizer
    from metaquery.result import Result
    from metaquery.space import Config, SearchSpace
    from metaquery.study import run
    from metaquery.trajectory import Trajectory
    from metaquery.types import Budget, Curve, Observation, Status, Suggestion

__version__ = "0.1.0"

_HOMES = {
    "Budget": "metaquery.types",
    "Config": "metaquery.space",
    "Corpus": "metaquery.corpus",
    "Curve": "metaquery.types",
    "Evaluation": "metaquery.evaluation",
    "MedCurvesError": "metaquery.errors",
    "Observation": "metaquery.types",
    "Optimizer": "metaquery.optimizers",
    "Result": "metaquery.result",
    "SearchSpace": "metaquery.space",
    "Status": "metaquery.types",
    "Suggestion": "metaquery.types",
    "Trajectory": "metaquery.trajectory",
    "evaluate": "metaquery.evaluation",
    "open": "metaquery.corpus",
    "optimizer": "metaquery.optimizers",
    "run": "metaquery.study",
}

__all__ = [
    "Budget",
    "Config",
    "Corpus",
    "Curve",
    "Evaluation",
    "MedCurvesError",
    "Observation",
    "Optimizer",
    "Result",
    "SearchSpace",
    "Status",
    "Suggestion",
    "Trajectory",
    "evaluate",
    "open",
    "optimizer",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'metaquery' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
