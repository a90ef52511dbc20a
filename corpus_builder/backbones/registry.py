"""Finding a backbone by name. Every module of this package that has SPECS is a family; adding one is adding a file.

A family whose members cannot be listed has `resolve(name) -> BackboneSpec | None`, which knows names of the form
`prefix:member` and returns None for all others.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from types import ModuleType

from corpus_builder.backbones.spec import BackboneSpec, ClassicalSpec, Member
from metaquery.errors import UnknownName


@cache
def _modules() -> list[ModuleType]:
    package = __name__.rpartition(".")[0]
    names = pkgutil.iter_modules(import_module(package).__path__)
    return [import_module(f"{package}.{module.name}") for module in names]


@cache
def _specs() -> dict[str, Member]:
    found: dict[str, Member] = {}
    for module in _modules():
        for spec in getattr(module, "SPECS", ()):
            if spec.name in found:
                raise ValueError(f"two backbones are called {spec.name!r}")
            found[spec.name] = spec
    return dict(sorted(found.items()))


def member_names(n_dims: int | None = None) -> list[str]:
    """Names of all members of the portfolio, networks and others, or of those that take `n_dims` spatial dimensions."""
    return [name for name, spec in _specs().items() if n_dims in (None, spec.n_dims)]


def backbone_names(n_dims: int | None = None) -> list[str]:
    """Names of all networks, or of those that take `n_dims` spatial dimensions."""
    return [name for name in member_names(n_dims) if isinstance(_specs()[name], BackboneSpec)]


def classical_names(n_dims: int | None = None) -> list[str]:
    """Names of all members that are no networks, or of those that take `n_dims` spatial dimensions."""
    return [name for name in member_names(n_dims) if isinstance(_specs()[name], ClassicalSpec)]


def member_spec(name: str) -> Member:
    """The member called `name`: a network, as architecture.weights, or a classical one, as features.classifier."""
    if name in _specs():
        return _specs()[name]
    for module in _modules():
        resolve = getattr(module, "resolve", None)
        if resolve is not None and (spec := resolve(name)) is not None:
            found: Member = spec
            return found
    raise UnknownName.of("backbone", name, _specs(), hint="see: corpus-builder backbones")


def backbone_spec(name: str) -> BackboneSpec:
    """The network called `name`; raises UnknownName for a member that is none."""
    spec = member_spec(name)
    if not isinstance(spec, BackboneSpec):
        raise UnknownName(f"{name} is not a network: expected another backbone, see: corpus-builder backbones")
    return spec
