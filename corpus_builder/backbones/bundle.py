"""Encoders of MONAI Model Zoo bundles, from a user's directory: `bundle:NAME`, NAME below MEDCURVES_WEIGHTS.

Of a classifier everything before its head is taken, of a segmentation net its contracting path. Inputs are normalised
to zero mean and unit variance per sample, whatever the bundle's own preprocessing.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import nn

from corpus_builder.backbones import (
    monai_densenet,
    monai_efficientnet,
    monai_resnet,
    monai_segresnet,
    monai_senet,
    monai_swin,
    monai_vit,
)
from corpus_builder.backbones.bundle_config import network_definition
from corpus_builder.backbones.spec import BackboneSpec, Normalization, Weights
from corpus_builder.backbones.stages import StagedBackbone
from metaquery.errors import InvalidInput

_Stages = dict[str, nn.Module]
_WEIGHTS = "models/model.pt"
_SIDES = (1, 2, 4, 8, 16, 32, 64, 128)
# Arguments of configurations written for an older MONAI that changed nothing in the network.
_OBSOLETE = {"SwinUNETR": ("img_size",)}


def _unet(net: Any) -> _Stages:
    """The way down and the bottom of a MONAI UNet, whose levels are nested: down, skip(next level), up."""
    stages: _Stages = {}
    level = net.model
    while hasattr(level, "__len__") and len(level) == 3 and hasattr(level[1], "submodule"):
        stages[f"down{len(stages) + 1}"] = level[0]
        level = level[1].submodule
    return stages | {"bottom": level}


def _basic_unet(net: Any) -> _Stages:
    return {name: getattr(net, name) for name in ("conv_0", "down_1", "down_2", "down_3", "down_4")}


def _dynunet(net: Any) -> _Stages:
    down = {f"down{k}": block for k, block in enumerate(net.downsamples, start=1)}
    return {"input": net.input_block, **down, "bottleneck": net.bottleneck}


def _segresnet_ds(net: Any) -> _Stages:
    levels = {
        f"level{k}": nn.Sequential(level["blocks"], level["downsample"])
        for k, level in enumerate(net.encoder.layers, start=1)
    }
    return {"stem": net.encoder.conv_init, **levels}


# Class of the network, or a base of it -> the stages of its encoder.
_ENCODERS: dict[str, Callable[[Any], _Stages]] = {
    "BasicUNet": _basic_unet,
    "DenseNet": monai_densenet.stages,
    "DynUNet": _dynunet,
    "EfficientNet": monai_efficientnet.stages,
    "ResNet": monai_resnet.stages,
    "SENet": monai_senet.stages,
    "SegResNet": monai_segresnet.stages,
    "SegResNetDS": _segresnet_ds,
    "SwinUNETR": monai_swin.stages,
    "UNETR": lambda net: monai_vit.stages(net.vit),
    "UNet": _unet,
    "ViT": monai_vit.stages,
    "ViTAutoEnc": monai_vit.stages,
}


def resolve(name: str) -> BackboneSpec | None:
    """The encoder of the bundle that `name`, `bundle:PATH`, says; None for names of another form."""
    prefix, _, member = name.partition(":")
    if prefix != "bundle":
        return None
    path = PurePosixPath(member)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise InvalidInput(f"{name!r}: expected bundle:PATH with a path below the weights root, got {member!r}")
    root = os.environ.get("MEDCURVES_WEIGHTS")
    if not root:
        raise InvalidInput(f"{name}: set MEDCURVES_WEIGHTS to the directory that holds the bundle {member}")
    folder = Path(root) / path
    newest = max((file.stat().st_mtime_ns for file in folder.glob("configs/*")), default=0)
    return _spec(name, folder, str(path), newest)


@cache
def _spec(name: str, folder: Path, path: str, _modified_ns: int) -> BackboneSpec:
    target, arguments = network_definition(folder)
    with torch.random.fork_rng(devices=[]):
        backbone, keys = _build(folder, target, arguments)
    first = next(p for p in backbone.parameters() if p.ndim > 3)  # kernels: (out, in, *spatial)
    n_dims, in_channels = first.ndim - 2, first.shape[1]
    min_size, feature_dim = _measure(backbone, n_dims, in_channels, folder)
    about = _metadata(folder)
    return BackboneSpec(
        name=name,
        family="monai_bundle",
        n_dims=n_dims,
        in_channels=in_channels,
        feature_dim=feature_dim,
        parameters=sum(p.numel() for p in backbone.parameters()),
        normalization=Normalization("zscore"),
        build=lambda: _build(folder, target, arguments)[0],
        licence="Apache-2.0",
        source=f"monai.networks.nets.{target}",
        weights=Weights(
            file=f"{path}/{_WEIGHTS}",
            sha256="",
            pretrained_on=", ".join(filter(None, (about.get("task"), about.get("data_source")))) or "not stated",
            licence="see the bundle's LICENSE",
            source=f"MONAI bundle {path} {about.get('version', '')}".strip(),
            rename=partial(_rename, keys),
        ),
        min_size=min_size,
    )


def _build(folder: Path, target: str, arguments: dict[str, Any]) -> tuple[StagedBackbone, dict[str, str | None]]:
    """The encoder with random weights, and key of the network -> key of the encoder, None for what it leaves out."""
    from monai.networks import nets

    made = getattr(nets, target, None)
    bases = [base.__name__ for base in made.__mro__] if isinstance(made, type) and issubclass(made, nn.Module) else []
    encoder = next((_ENCODERS[base] for base in bases if base in _ENCODERS), None)
    if not isinstance(made, type) or encoder is None:
        raise InvalidInput(
            f"{folder}: the encoder of {target} is not known: expected one of {', '.join(sorted(_ENCODERS))}"
        )
    given = {key: value for key, value in arguments.items() if key not in _OBSOLETE.get(target, ())}
    if "pretrained" in inspect.signature(made).parameters:
        given["pretrained"] = False  # it would download, or read a file, of its own
    device = torch.get_default_device()
    try:
        with torch.device("cpu"):  # several nets read values of tensors while they are built
            net = made(**given)
    except (TypeError, ValueError, RuntimeError, AttributeError, LookupError) as error:
        raise InvalidInput(
            f"{folder}: {target} cannot be built from network_def: {' '.join(str(error).split())}; "
            f"does the bundle need another version of MONAI?"
        ) from error
    tensors = net.state_dict(keep_vars=True)
    backbone = StagedBackbone(encoder(net), feature_dim=0)
    own = {id(tensor): key for key, tensor in backbone.state_dict(keep_vars=True).items()}
    return backbone.to(device), {key: own.get(id(tensor)) for key, tensor in tensors.items()}


def _rename(keys: Mapping[str, str | None], key: str) -> str | None:
    return keys.get(key, key)  # a key that the network does not have is kept, to be reported


def _measure(backbone: StagedBackbone, n_dims: int, in_channels: int, folder: Path) -> tuple[int, int]:
    """The smallest side, of powers of two, that every stage accepts, and the number of features."""
    shapes = backbone.to("meta").eval()
    for side in _SIDES:
        try:
            with torch.no_grad():
                return side, shapes(torch.empty(1, in_channels, *(side,) * n_dims, device="meta")).shape[1]
        except (RuntimeError, ValueError):  # too small for a layer
            continue
    raise InvalidInput(f"{folder}: the network takes no image of up to {_SIDES[-1]} pixels a side")


def _metadata(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
