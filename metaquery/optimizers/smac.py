"""SMAC3 (Lindauer et al., JMLR 23, 2022): its multi-fidelity facade, through the `smac` package's ask and tell."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from metaquery.errors import InvalidInput
from metaquery.optimizers._configspace import from_configspace, to_configspace
from metaquery.optimizers._globals import OwnGenerators, quiet
from metaquery.optimizers._rungs import rungs
from metaquery.optimizers._wrapped import Wrapped
from metaquery.space import Config
from metaquery.types import Task

_ENDLESS = 10**6  # trials; SMAC wants to know how many there will be, and plans nothing by it but its initial design


class Smac(Wrapped):
    """Random forests on the conditional space within Hyperband, at the epochs max, max / eta, max / eta^2 ...

    SMAC writes to a directory, which is temporary here, and its logging is left alone.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"eta": 3, "n_initial": 10}
    packages = ("smac", "ConfigSpace")
    extra = "smac"

    def _bind(self, task: Task) -> None:
        from smac import MultiFidelityFacade, Scenario

        eta = self.options["eta"]
        self._levels = rungs(task.max_epochs, eta, self.name)
        space = to_configspace(task.space, self.seed)
        if not space:
            raise InvalidInput(f"smac needs something to vary: search space {task.space.name!r} has a single config")
        self._own = OwnGenerators(self.seed)
        with TemporaryDirectory(prefix="metaquery-smac-") as directory, self._own():
            scenario = Scenario(
                space,
                deterministic=True,
                n_trials=_ENDLESS,
                min_budget=1,
                max_budget=eta ** (len(self._levels) - 1),
                seed=self.seed,
                output_directory=directory,
            )
            self._smac = MultiFidelityFacade(
                scenario,
                lambda config, seed, budget: math.nan,  # noqa: ARG005  (asked for, never called: ask and tell alone)
                intensifier=MultiFidelityFacade.get_intensifier(scenario, eta=eta),
                initial_design=MultiFidelityFacade.get_initial_design(scenario, n_configs=self.options["n_initial"]),
                logging_level=False,
                overwrite=True,
            )

        self._exhausted = False

    def _propose(self) -> tuple[Any, Config, int] | None:
        from smac.main.exceptions import ConfigurationSpaceExhaustedException

        if self._exhausted:
            return None
        try:
            with self._own(), _quiet():
                info = self._smac.ask()
        except ConfigurationSpaceExhaustedException:
            self._exhausted = True
            return None
        level = round(math.log(info.budget, self.options["eta"]))
        return info, from_configspace(self.task.space, dict(info.config)), self._levels[level]

    def _report(self, job: Any, epoch: int, loss: float, seconds: float) -> None:  # noqa: ARG002
        from smac.runhistory.dataclasses import TrialValue

        with self._own(), _quiet():
            self._smac.tell(job, TrialValue(cost=loss, time=seconds), save=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what SMAC says where a small space runs out: means of nothing, and log lines about sampling again."""
    with warnings.catch_warnings(), quiet("smac"):
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="numpy")
        yield
