"""Pretrained weights: finding the file, checking it, loading it into a backbone."""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

from corpus_builder.backbones.spec import HUB, BackboneSpec, Weights
from corpus_builder.backbones.stages import Backbone
from metaquery.errors import InvalidData, InvalidInput

# Where checkpoints keep the tensors of the model: MedicalNet, SAM-Med3D, MONAI's CheckpointSaver.
_STATE_ENTRIES = ("state_dict", "model_state_dict", "model")
# What torch.load raises for files that are damaged, or that hold more than tensors.
_UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError)


def build(spec: BackboneSpec, weights_root: Path | None, size: tuple[int, ...] | None = None) -> Backbone:
    """The backbone of `spec`, with its pretrained weights where it has some.

    `size` is the spatial shape of its input, by default the one of its weights; only nets whose parameters depend on it
    ask for it. Random weights come from torch's global generator: the caller seeds it.
    """
    size = size or spec.input_size
    if spec.build_sized is not None and size is not None:
        return spec.build_sized(size, _read(weights_path(spec, weights_root)) if spec.weights else None)
    backbone = spec.build()
    if spec.weights is not None:
        tensors = _load(weights_path(spec, weights_root), spec.weights)
        own = backbone.state_dict()
        expected = {k for k in own if not k.endswith("num_batches_tracked")}
        given = {k for k in tensors if not k.endswith("num_batches_tracked")}
        if expected != given:
            raise InvalidData(
                f"{spec.weights.file} does not fit {spec.name}: missing {sorted(expected - given)[:3]}, "
                f"unknown {sorted(given - expected)[:3]}; restore the published file"
            )
        for key in sorted(expected):
            if own[key].shape != tensors[key].shape:
                raise InvalidData(
                    f"{spec.weights.file} does not fit {spec.name}: {key} is {list(tensors[key].shape)}, expected "
                    f"{list(own[key].shape)}; restore the published file"
                )
        backbone.load_state_dict(tensors, strict=False)
    return backbone


def verify(spec: BackboneSpec, weights_root: Path | None, size: tuple[int, ...]) -> str:
    """SHA-256 of the weights file of `spec`, found to be the published one.

    Where no hash is published, the file is loaded for inputs of the spatial shape `size` instead: it must fit.
    """
    path = weights_path(spec, weights_root)
    if spec.weights is not None and not spec.weights.sha256:
        with torch.random.fork_rng(devices=[]):
            build(spec, weights_root, size)
    return file_sha256(path)


def weights_path(spec: BackboneSpec, weights_root: Path | None) -> Path:
    """Path of the weights file of `spec` below `weights_root`, checked to exist and to be the published one."""
    assert spec.weights is not None
    if weights_root is None:
        raise InvalidInput(f"{spec.name} needs pretrained weights: give --weights-root DIR or set MEDCURVES_WEIGHTS")
    path = find_file(spec.weights, weights_root)
    if path is None:
        get = (
            f"get it with  corpus-builder backbones fetch {spec.name}"
            if spec.weights.source.startswith(HUB)
            else f"get the file from {spec.weights.source}"
        )
        raise InvalidInput(
            f"weights of {spec.name} not found: expected {weights_root / spec.weights.file}; {get} or point "
            f"--weights-root to where it is"
        )
    if spec.weights.sha256 and file_sha256(path) != spec.weights.sha256:
        raise InvalidData(f"{path} is not the published file of {spec.name}: its SHA-256 differs; fetch it again")
    return path


def find_file(weights: Weights, weights_root: Path) -> Path | None:
    """The weights file below `weights_root` under one of its names, or None."""
    paths = (weights_root / name for name in (weights.file, *weights.other_files))
    return next((path for path in paths if path.is_file()), None)


def file_sha256(path: Path) -> str:
    """SHA-256 of a weights file, computed once for each state of the file."""
    return _sha256(path, path.stat().st_mtime_ns)


@cache
def _sha256(path: Path, _modified_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _load(path: Path, weights: Weights) -> dict[str, torch.Tensor]:
    renamed = {weights.rename(key): tensor for key, tensor in _read(path).items()}
    known = {key: tensor for key, tensor in renamed.items() if key is not None}
    return weights.adapt(known) if weights.adapt else known


def _read(path: Path) -> Mapping[str, torch.Tensor]:
    return _safetensors(path) if path.suffix == ".safetensors" else _torch_file(path)


def _safetensors(path: Path) -> Mapping[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise InvalidData(f"{path} cannot be read as safetensors ({error}); fetch it again") from error


def _torch_file(path: Path) -> Mapping[str, torch.Tensor]:
    try:
        with warnings.catch_warnings(action="ignore"):  # of a format it did not write itself: read or refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        forbidden = re.search(r"GLOBAL (\S+)", str(error))
        came = f"one that calls {forbidden[1]}" if forbidden else f"one that cannot be read ({type(error).__name__})"
        raise InvalidData(
            f"{path} was refused: expected a torch file of tensors only, as nothing else is safe to load, got {came}; "
            f"fetch it again, or save its state dict alone"
        ) from error
    if isinstance(content, dict):
        nested = [content[entry] for entry in _STATE_ENTRIES if isinstance(content.get(entry), dict)]
        state = nested[0] if nested else content
        if state and all(isinstance(value, torch.Tensor) for value in state.values()):
            return dict(state)
    raise InvalidData(
        f"{path} holds no state dict: expected tensors by name, or one of {', '.join(_STATE_ENTRIES)} with them; "
        f"fetch it again, or save its state dict alone"
    )
