"""Running a plan: the run directory, one unit of work, and the processes that share the units."""

from corpus_builder.execute.clusters import opener
from corpus_builder.execute.rundir import RunDirectory
from corpus_builder.execute.runner import run_plan
from corpus_builder.execute.slurm import load_slurm_options
from corpus_builder.execute.tasks import Terms
from corpus_builder.execute.work import Place

__all__ = ["Place", "RunDirectory", "Terms", "load_slurm_options", "opener", "run_plan"]
