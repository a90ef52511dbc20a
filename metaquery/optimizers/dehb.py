"""DEHB (Awad et al., IJCAI 2021): differential evolution within Hyperband, through the `dehb` package's ask and tell.

What the package does to its surroundings ends here. It gets its own copy of the space and a directory that is
gone again after its constructor; loguru, which its own set-up would reconfigure for the whole program, is never
touched; its deprecated calls stay silent. It is always built for one worker: a larger number makes it start a
Dask cluster that ask and tell never use, and any number of its suggestions may be running at once anyway.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from metaquery.errors import InvalidInput, OptimizerError
from metaquery.optimizers._configspace import from_configspace, to_configspace
from metaquery.optimizers._rungs import rungs
from metaquery.optimizers._wrapped import Wrapped
from metaquery.space import Config
from metaquery.types import Task


class Dehb(Wrapped):
    """DEHB on the conditional space, at the fidelities max, max / eta, max / eta^2 ... of at least one epoch.

    It knows nothing of training on from a checkpoint: what that saves is for the study to charge.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"eta": 3, "mutation_factor": 0.5, "crossover_prob": 0.5}
    packages = ("DEHB", "ConfigSpace")
    extra = "dehb"

    def _bind(self, task: Task) -> None:
        eta = self.options["eta"]
        epochs = rungs(task.max_epochs, eta, self.name)
        space = to_configspace(task.space, self.seed)
        if not space:
            raise InvalidInput(f"dehb needs something to vary: search space {task.space.name!r} has a single config")
        with TemporaryDirectory(prefix="metaquery-dehb-") as directory, _quiet():
            self._dehb = _dehb_class()(
                cs=space,
                # A hair below one epoch: at exactly one the package's own count of rungs hangs on the last bit of a
                # quotient of logarithms. The fidelities themselves derive from the largest.
                min_fidelity=1 - 1e-6,
                max_fidelity=task.max_epochs,
                eta=eta,
                mutation_factor=self.options["mutation_factor"],
                crossover_prob=self.options["crossover_prob"],
                boundary_fix_type="random",  # "clip" crashes in 0.1.2
                n_workers=1,
                seed=self.seed,
                save_freq=None,
                output_path=directory,
            )
        self._epochs = _by_fidelity(self._dehb.fidelities, epochs)

    def _propose(self) -> tuple[dict[str, Any], Config, int]:
        with _quiet():
            job = self._dehb.ask()
        return job, from_configspace(self.task.space, job["config"]), self._epochs[job["fidelity"]]

    def _report(self, job: dict[str, Any], epoch: int, loss: float, seconds: float) -> None:  # noqa: ARG002
        with _quiet():
            self._dehb.tell(job, {"fitness": loss, "cost": seconds})
        self._dehb._clean_inactive_brackets()  # its run() does; ask and tell alone would search all brackets ever begun


def _by_fidelity(fidelities: Any, expected: list[int]) -> dict[float, int]:
    """The epoch of each fidelity, refused unless they are the `expected` ones that Hyperband is defined by."""
    epochs = {float(fidelity): max(round(float(fidelity)), 1) for fidelity in fidelities}
    if list(epochs.values()) != expected:
        raise OptimizerError(f"dehb chose the epochs {list(epochs.values())}: expected {expected}")
    return epochs


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of calls that ConfigSpace has deprecated and dehb still makes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="dehb")
        yield


@cache
def _dehb_class() -> Any:
    from dehb import DEHB

    class QuietDEHB(DEHB):
        """DEHB without its logging, which drops every handler of the program's own and writes a file."""

        def _setup_logger(self, resume: bool, kwargs: dict[str, Any]) -> None:  # noqa: ARG002
            self.output_path = Path(kwargs["output_path"])
            self.logger = _Silence()

    return QuietDEHB


class _Silence:
    """A logger that drops everything."""

    def debug(self, message: str) -> None:
        """Drop `message`."""

    info = warning = error = debug
