"""Optimizers by name. Adding one is adding one module here, or an entry point in the group `metaquery.optimizers`."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module, metadata
from typing import Any

from metaquery.errors import InvalidInput, UnknownName
from metaquery.optimizers.base import Optimizer

__all__ = ["Optimizer", "optimizer", "optimizer_names"]

ENTRY_POINTS = "metaquery.optimizers"


def optimizer_names() -> list[str]:
    """The names of all optimizers, those of other distributions included, whether or not their packages are there."""
    return sorted(_homes())


def optimizer(name: str, seed: int = 0, **options: Any) -> Optimizer:
    """A new optimizer; UnknownName, InvalidInput or MissingExtra where it cannot be made."""
    homes = _homes()
    if name not in homes:
        raise UnknownName.of("optimizer", name, homes)
    return _load(name, homes[name])(seed=seed, **options)


@cache
def _homes() -> dict[str, metadata.EntryPoint | None]:
    """Where each name comes from: None for a module of this package, else the entry point."""
    homes: dict[str, metadata.EntryPoint | None] = {
        module.name: None
        for module in pkgutil.iter_modules(__path__)
        if module.name != "base" and not module.name.startswith("_")
    }
    for point in metadata.entry_points(group=ENTRY_POINTS):
        if point.name in homes:
            raise InvalidInput(f"two optimizers are called {point.name!r}: rename the entry point {point.value}")
        homes[point.name] = point
    return homes


def _load(name: str, point: metadata.EntryPoint | None) -> type[Optimizer]:
    if point is None:
        module = import_module(f"{__name__}.{name}")
        classes = [item for item in vars(module).values() if isinstance(item, type) and issubclass(item, Optimizer)]
        return next(item for item in classes if item.__module__ == module.__name__)
    loaded = point.load()
    if not (isinstance(loaded, type) and issubclass(loaded, Optimizer) and loaded.name == name):
        raise InvalidInput(f"entry point {name} = {point.value} must be a subclass of Optimizer with name = {name!r}")
    return loaded
