"""Optimizers by name. Adding one is adding one module here, or an entry point in the group `metaquery.optimizers`."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module, metadata
from typing import Any

from metaquery.errors import InvalidInput, UnknownName
from metaquery.optimizers.base import Optimizer
from metaquery.optimizers.history import History

__all__ = ["History", "Optimizer", "optimizer", "optimizer_class", "optimizer_names"]

ENTRY_POINTS = "metaquery.optimizers"
_NOT_OPTIMIZERS = ("base", "history")


def optimizer_names() -> list[str]:
    """The names of all optimizers, those of other distributions included, whether or not their packages are there."""
    return sorted(_homes())


def optimizer(name: str, seed: int = 0, *, history: History | None = None, **options: Any) -> Optimizer:
    """A new optimizer; UnknownName, InvalidInput or MissingExtra where it cannot be made.

    `name` may hold options, as in `quicktune:cost=false:meta_steps=500`. `history` is for those that learn from other
    datasets (`optimizer_class(name).needs_history`), and only for them.
    """
    kind = optimizer_class(name)
    return kind(seed=seed, history=history, **(_options(kind, name) | options))


def optimizer_class(name: str) -> type[Optimizer]:
    """The class called `name`, whatever options it holds; UnknownName where there is none."""
    plain = name.partition(":")[0]
    homes = _homes()
    if plain not in homes:
        raise UnknownName.of("optimizer", plain, homes)
    return _load(plain, homes[plain])


def _options(kind: type[Optimizer], name: str) -> dict[str, Any]:
    """The options after the colons of `name`, each in the type of its default."""
    options: dict[str, Any] = {}
    for item in name.split(":")[1:]:
        key, equals, text = item.partition("=")
        if not equals or key in options:
            raise InvalidInput(f"{name!r} holds {item!r}: expected {kind.name}:option=value, each option once")
        if key not in kind.defaults:
            raise UnknownName.of(f"option of {kind.name}", key, kind.defaults)
        wanted = type(kind.defaults[key])
        try:
            options[key] = {"true": True, "false": False}[text.lower()] if wanted is bool else wanted(text)
        except (KeyError, ValueError):
            expected = "true or false" if wanted is bool else f"of type {wanted.__name__}"
            raise InvalidInput(f"option {key} of {kind.name} must be {expected}, got {text!r}") from None
    return options


@cache
def _homes() -> dict[str, metadata.EntryPoint | None]:
    """Where each name comes from: None for a module of this package, else the entry point."""
    homes: dict[str, metadata.EntryPoint | None] = {
        module.name: None
        for module in pkgutil.iter_modules(__path__)
        if module.name not in _NOT_OPTIMIZERS and not module.name.startswith("_")
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
        return next(item for item in classes if item is not Optimizer and item.name == name)
    loaded = point.load()
    if not (isinstance(loaded, type) and issubclass(loaded, Optimizer) and loaded.name == name):
        raise InvalidInput(f"entry point {name} = {point.value} must be a subclass of Optimizer with name = {name!r}")
    return loaded
