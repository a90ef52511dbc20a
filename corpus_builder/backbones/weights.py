"""Pretrained weights: finding the file, checking it, loading it into a backbone."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import torch

from corpus_builder.backbones.spec import BackboneSpec, Weights
from corpus_builder.backbones.stages import StagedBackbone
from metaquery.errors import InvalidData, InvalidInput


def build(spec: BackboneSpec, weights_root: Path | None) -> StagedBackbone:
    """The backbone of `spec`, with its pretrained weights where it has some.

    Random weights come from torch's global generator: the caller seeds it.
    """
    backbone = spec.build()
    if spec.weights is not None:
        tensors = _load(weights_path(spec, weights_root), spec.weights)
        expected = {k for k in backbone.state_dict() if not k.endswith("num_batches_tracked")}
        given = {k for k in tensors if not k.endswith("num_batches_tracked")}
        if expected != given:
            raise InvalidData(
                f"{spec.weights.file} does not fit {spec.name}: missing {sorted(expected - given)[:3]}, "
                f"unknown {sorted(given - expected)[:3]}; restore the published file"
            )
        backbone.load_state_dict(tensors, strict=False)
    return backbone


def weights_path(spec: BackboneSpec, weights_root: Path | None) -> Path:
    """Path of the weights file of `spec` below `weights_root`, checked to exist and to be the published one."""
    assert spec.weights is not None
    if weights_root is None:
        raise InvalidInput(f"{spec.name} needs pretrained weights: give --weights-root DIR or set MEDCURVES_WEIGHTS")
    path = weights_root / spec.weights.file
    if not path.is_file():
        raise InvalidInput(
            f"weights of {spec.name} not found: expected {path}; get the file from {spec.weights.source} "
            f"or point --weights-root to where it is"
        )
    if _sha256(path, path.stat().st_mtime_ns) != spec.weights.sha256:
        raise InvalidData(f"{path} is not the published file of {spec.name}: its SHA-256 differs; fetch it again")
    return path


@cache
def _sha256(path: Path, _modified_ns: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _load(path: Path, weights: Weights) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InvalidData(f"{path} cannot be read as safetensors ({error}); fetch it again") from error
    renamed = {weights.rename(key): tensor for key, tensor in tensors.items()}
    return {key: tensor for key, tensor in renamed.items() if key is not None}
