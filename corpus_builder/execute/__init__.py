"""Running a plan: the run directory, one unit of work, and the processes that share the units."""

from corpus_builder.execute.rundir import RunDirectory
from corpus_builder.execute.runner import run_plan
from corpus_builder.execute.work import Place

__all__ = ["Place", "RunDirectory", "run_plan"]
