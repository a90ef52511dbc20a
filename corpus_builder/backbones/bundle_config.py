"""The network of a MONAI Model Zoo bundle, read from its configuration without running anything in it.

A bundle's configuration is a program: `$` starts a Python expression, `_target_` names anything to call. So MONAI's
parser is not used. Only the network's own definition is read: a class of `monai.networks.nets` by name, and arguments
that are plain values, or `@` references to plain values.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from metaquery.errors import InvalidInput

_FILES = ("inference.json", "train.json", "inference.yaml", "train.yaml")
_TARGET = re.compile(r"(?:monai\.networks\.nets\.(?:\w+\.)?)?(\w+)")
_MAX_DEPTH = 20  # of references within references: more is a circle


def network_definition(folder: Path) -> tuple[str, dict[str, Any]]:
    """Class name and arguments of the network of the bundle in `folder`; InvalidInput for anything but plain values."""
    for path in (folder / "configs" / name for name in _FILES):
        if path.is_file() and isinstance(config := _read(path), dict) and "network_def" in config:
            return _definition(config, path)
    raise InvalidInput(
        f"{folder} is not a MONAI bundle: expected network_def in one of {', '.join(f'configs/{f}' for f in _FILES)}; "
        f"unpack the bundle there"
    )


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidInput(f"cannot read {path}: {' '.join(str(error).split())}; fetch the bundle again") from None


def _definition(config: dict[str, Any], path: Path) -> tuple[str, dict[str, Any]]:
    definition = config["network_def"]
    if not isinstance(definition, dict) or not isinstance(definition.get("_target_"), str):
        raise _refusal(path, "network_def", definition, "a mapping with _target_")
    target = _TARGET.fullmatch(definition["_target_"])
    if target is None:
        raise _refusal(path, "network_def._target_", definition["_target_"], "a class of monai.networks.nets")
    arguments = {key: value for key, value in definition.items() if key not in ("_target_", "_desc_")}
    return target[1], {key: _plain(value, f"network_def.{key}", config, path, 0) for key, value in arguments.items()}


def _plain(value: Any, where: str, config: dict[str, Any], path: Path, depth: int) -> Any:
    """`value` with its references resolved."""
    if depth > _MAX_DEPTH or where.rpartition(".")[2].startswith("_"):
        raise _refusal(path, where, value, "plain values")
    if isinstance(value, dict):
        return {key: _plain(item, f"{where}.{key}", config, path, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, f"{where}.{i}", config, path, depth + 1) for i, item in enumerate(value)]
    if isinstance(value, str) and value[:1] in ("$", "%"):
        raise _refusal(path, where, value, "plain values")
    if isinstance(value, str) and value.startswith("@"):
        found: Any = config
        for key in re.split("::|#", value[1:]):
            try:
                found = found[int(key) if isinstance(found, list) else key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise _refusal(path, where, value, "a reference to something that is there") from None
        return _plain(found, f"{where}.{value[1:]}", config, path, depth + 1)
    return value


def _refusal(path: Path, where: str, value: object, expected: str) -> InvalidInput:
    return InvalidInput(
        f"{path}: {where} was refused: expected {expected}, as nothing of a bundle is run, got {value!r}; "
        f"write the value itself into the configuration"
    )
