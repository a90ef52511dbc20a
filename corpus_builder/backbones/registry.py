"""Finding a backbone by name. Every module of this package that has SPECS is a family; adding one is adding a file."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from corpus_builder.backbones.spec import BackboneSpec
from metaquery.errors import UnknownName


@cache
def _specs() -> dict[str, BackboneSpec]:
    package = __name__.rpartition(".")[0]
    found: dict[str, BackboneSpec] = {}
    for module in pkgutil.iter_modules(import_module(package).__path__):
        for spec in getattr(import_module(f"{package}.{module.name}"), "SPECS", ()):
            if spec.name in found:
                raise ValueError(f"two backbones are called {spec.name!r}")
            found[spec.name] = spec
    return dict(sorted(found.items()))


def backbone_names(n_dims: int | None = None) -> list[str]:
    """Names of all backbones, or of those that take `n_dims` spatial dimensions."""
    return [name for name, spec in _specs().items() if n_dims in (None, spec.n_dims)]


def backbone_spec(name: str) -> BackboneSpec:
    """The backbone called `name`, as architecture.weights."""
    try:
        return _specs()[name]
    except KeyError:
        raise UnknownName.of("backbone", name, _specs(), hint="see: corpus-builder backbones") from None
