"""No tuning at all: what a user gets who only chooses a backbone."""

from __future__ import annotations

from metaquery.optimizers.base import Optimizer
from metaquery.space import Config, Distances
from metaquery.types import Task


class Default(Optimizer):
    """Full training of every backbone's default config, in the order of the space; without backbones, of one config.

    On a table, the nearest candidate of the same backbone stands for a default that is not there, and backbones without
    a candidate are left out.
    """

    deterministic = True

    def _bind(self, task: Task) -> None:
        space = task.space
        if "backbone" in space.by_name:
            defaults = [space.complete({"backbone": choice}) for choice in space["backbone"].choices]
        else:
            defaults = [space.default()]
        if task.candidates is not None:
            defaults = [found for config in defaults if (found := _stand_in(config, task, task.candidates)) is not None]
        self._configs = iter(defaults)

    def _ask(self, token: int) -> tuple[Config, int] | None:  # noqa: ARG002
        config = next(self._configs, None)
        return None if config is None else (config, self.task.max_epochs)


def _stand_in(config: Config, task: Task, candidates: tuple[Config, ...]) -> Config | None:
    same = [item for item in candidates if item.get("backbone") == config.get("backbone")]
    return same[int(Distances(task.space, same)(config).argmin())] if same else None
