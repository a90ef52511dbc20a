"""A protocol: the checked YAML that says which datasets train, validate and test (`schemas/protocol.schema.json`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from metaquery.errors import InvalidInput, UnknownName
from metaquery.metrics import metric as known_metric
from metaquery.schema.documents import check_document
from metaquery.types import Budget, Charging, Snap, parse_duration

Judged = Literal["validation", "test"]
Normaliser = Literal["all_epochs", "last_epochs"]

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Defaults:
    """How optimizers are compared where the evaluation is started with nothing else; None means that none is given."""

    budget: Budget | None = None
    metric: str | None = None
    seeds: int | None = None
    workers: int | None = None
    charging: Charging | None = None
    snap: Snap | None = None
    judged: Judged | None = None
    charge_optimizer: bool | None = None
    normaliser: Normaliser | None = None


@dataclass(frozen=True)
class Protocol:
    """A checked protocol; `scheme` is its member `folds`, which `metaquery.evaluation.protocols.folds` reads."""

    name: str
    description: str
    scheme: Mapping[str, Any]
    defaults: Defaults

    @classmethod
    def load(cls, source: str | Path) -> Protocol:
        """The bundled protocol of that name, or the one in the YAML file of that path.

        Raises UnknownName for a name that is not bundled and no path of a file, InvalidInput for a file that is no
        protocol.
        """
        names = protocol_names()
        path = _HERE / f"{source}.yaml" if source in names else Path(source)
        if not path.is_file():
            raise UnknownName.of("protocol", source, names, hint="give one of them or the path of your own YAML file")
        return cls.from_document(_read(path), what=str(path))

    @classmethod
    def from_document(cls, document: Mapping[str, Any], *, what: str = "protocol") -> Protocol:
        """Check `document`, which messages call `what`, against the schema."""
        check_document("protocol", document, what=what)
        given = dict(document.get("defaults", {}))
        if "budget" in given:
            limits = dict(given["budget"])
            time = limits.pop("time", None)
            given["budget"] = Budget(None if time is None else parse_duration(time), **limits)
        if "metric" in given:
            known_metric(given["metric"])
        return cls(document["name"], document["description"], dict(document["folds"]), Defaults(**given))


def protocol_names() -> list[str]:
    """The names of the bundled protocols."""
    return sorted(path.stem for path in _HERE.glob("*.yaml"))


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidInput(f"{path} is not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise InvalidInput(f"{path} must hold a mapping, see schemas/protocol.schema.json")
    return document
