"""Every 2-D image model of timm: `timm:NAME.TAG` with the published weights of that tag, `timm:NAME.scratch` without.

A spec is made when its name is asked for, by building the net on the meta device. timm is imported only then.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from corpus_builder.backbones.spec import HUB, BackboneSpec, Normalization, Weights
from corpus_builder.backbones.stages import WrappedBackbone
from metaquery.errors import InvalidData, InvalidInput, MissingExtra, UnknownName

PREFIX = "timm:"
_SCRATCH = "scratch"
# The compiled operators that an import of torchvision cannot do without; no classification model calls them.
_OPERATORS = ("nms", "qnms")
_Size = tuple[int, ...]


@cache
def import_timm() -> ModuleType:
    """timm, also where torchvision's compiled operators do not load, as beside a torch for CPUs only."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        raise MissingExtra.of("timm", "timm") from None
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for operator in _OPERATORS:
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{operator}", schema)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]  # what the import that failed left behind
    try:
        import timm
    except ImportError:
        raise MissingExtra.of("timm", "timm") from None
    module: ModuleType = timm
    return module


@cache
def resolve(name: str) -> BackboneSpec | None:
    """The backbone called `timm:NAME.TAG` or `timm:NAME.scratch`; None for a name with another prefix."""
    if not name.startswith(PREFIX):
        return None
    model, config = _look_up(name)
    size: _Size = tuple(config.input_size[1:])
    fit = _fit(name, size)
    pretrained = not model.endswith(f".{_SCRATCH}")
    return BackboneSpec(
        name=name,
        family=fit.family,
        n_dims=2,
        in_channels=3,
        feature_dim=fit.feature_dim,
        parameters=fit.parameters,
        normalization=Normalization("fixed", tuple(config.mean), tuple(config.std)),
        build=partial(_build, name, size, None),
        licence="Apache-2.0",
        source=f"timm {import_timm().__version__}",
        weights=_weights(model, config) if pretrained else None,
        input_size=size if pretrained else None,
        build_sized=partial(_build, name),
    )


def _look_up(name: str) -> tuple[str, Any]:
    """The part of `name` behind the prefix, and timm's configuration of it; every name that is none is refused."""
    timm = import_timm()
    model = name.removeprefix(PREFIX)
    architecture, _, tag = model.partition(".")
    renamed = timm.models.get_deprecated_models()
    if architecture in renamed:
        now = f"is called {PREFIX}{renamed[architecture]} now" if renamed[architecture] else "is gone"
        raise UnknownName(f"unknown backbone {name!r}: {architecture} {now} (timm {timm.__version__})")
    if not timm.is_model(architecture):
        known = [*timm.list_models(pretrained=True), *(f"{n}.{_SCRATCH}" for n in timm.list_models())]
        raise UnknownName.of("timm model", model, known, hint=f"written {PREFIX}NAME.TAG or {PREFIX}NAME.{_SCRATCH}")
    tags = [known.partition(".")[2] for known in timm.list_models(f"{architecture}.*", pretrained=True)]
    if tag not in (*tags, _SCRATCH):
        raise UnknownName(
            f"{name} {f'has no weights called {tag!r}' if tag else 'does not say which weights'}: expected "
            f"{PREFIX}{architecture}.TAG with one of {', '.join(tags) or 'no published ones'}, or .{_SCRATCH} for "
            f"random weights"
        )
    return model, timm.models.get_pretrained_cfg(architecture if tag == _SCRATCH else model)


def _weights(model: str, config: Any) -> Weights:
    return Weights(
        file=f"timm/{model}/model.safetensors",
        other_files=(f"timm/{model}/pytorch_model.bin",),
        sha256="",
        pretrained_on=f"see timm's tag {model.partition('.')[2]}",
        licence=config.license or "not stated by timm",
        source=f"{HUB}{config.hf_hub_id}" if config.hf_hub_id else str(config.url),
        rename=str,  # timm itself reads its files, in `_create`
    )


def _build(name: str, size: _Size, tensors: Mapping[str, Tensor] | None) -> WrappedBackbone:
    """The net called `name` for images of `size`, with the published `tensors` or, for None, with random weights."""
    fit = _fit(name, size)
    try:
        net = _create(name, fit.options, tensors)
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        if tensors is None:
            raise
        raise InvalidData(
            f"the file in timm/{name.removeprefix(PREFIX)} does not fit {name} ({_one_line(error)}): delete it and "
            f"run  corpus-builder backbones fetch {name}"
        ) from error
    return WrappedBackbone(net, stage_parameters(net), _features, fit.feature_dim)


@dataclass(frozen=True, slots=True)
class _Fit:
    """What timm must be told so that a net takes images of some size, and what the net is then."""

    options: Mapping[str, Any]
    feature_dim: int
    parameters: int
    family: str


@cache
def _fit(name: str, size: _Size) -> _Fit:
    """How `name` takes images of `size`.

    Found by trying it on the meta device. timm marks nets that are made for one size, and makes them for another one on
    request, with position embeddings and windows resampled; whether it does that to published weights as well is tried
    with tensors of the marked size. Some of the marked nets take other sizes as they are.
    """
    model, config = _look_up(name)
    own = tuple(config.input_size[1:])
    resize = [{"img_size": size}] if config.fixed_input_size and size != own else []
    reasons = []
    for options in (*resize, {}):
        try:
            with torch.device("meta"), torch.no_grad(), torch.random.fork_rng(devices=[]):
                net = _create(name, options, None).train()
                _check_patches(net, size)
                features = _features(net, torch.empty(2, 3, *size))
                if options and not model.endswith(f".{_SCRATCH}"):
                    _create(name, options, _create(name, {}, None, head=True).state_dict())
            if features.ndim != 2 or len(features) != 2:
                raise ValueError(f"two images give features of the shape {list(features.shape)}")
        except Exception as error:  # whatever timm and the net raise
            reasons.append(_one_line(error))
        else:
            parameters = sum(p.numel() for p in net.parameters())
            return _Fit(options, features.shape[1], parameters, type(net).__module__.rpartition(".")[2])
    shown = " x ".join(map(str, size))
    if size == own:
        raise InvalidInput(
            f"{name} cannot be a backbone ({reasons[0]}): expected a net that gives one vector for each image of "
            f"{shown} pixels; take another model of timm"
        )
    raise InvalidInput(
        f"{name} does not take images of {shown} pixels ({reasons[0]}): it is made for "
        f"{' x '.join(map(str, own))}; change image_size or take another model of timm"
    )


def _check_patches(net: Any, size: _Size) -> None:
    """Raise ValueError where patches of the net would leave a border of the image out, as timm lets them."""
    patches = getattr(net, "patch_embed", None)
    if not isinstance(patches, import_timm().layers.PatchEmbed) or patches.dynamic_img_pad:
        return
    if any(side % patch for side, patch in zip(size, patches.patch_size, strict=True)):
        raise ValueError(f"each side must be a multiple of {patches.patch_size[0]}")


def _create(name: str, options: Mapping[str, Any], tensors: Mapping[str, Tensor] | None, *, head: bool = False) -> Any:
    """timm's model, without its classification head unless `head`; every one of `tensors` must have its place."""
    timm = import_timm()
    model = name.removeprefix(PREFIX).removesuffix(f".{_SCRATCH}")
    overlay = None
    if tensors is not None:
        overlay = {"state_dict": _with_positions(model, options, tensors), "hf_hub_id": None, "url": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of torch, about how timm resamples tables of positions
        net = timm.create_model(model, pretrained=tensors is not None, pretrained_cfg_overlay=overlay, **options)
    net.pretrained_cfg.pop("state_dict", None)  # a copy that would live as long as the net
    if not head:
        net.reset_classifier(0)
    return net


def _with_positions(model: str, options: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` with position embeddings of (1, height, width, channels) resampled, which timm leaves as they are."""
    given = tensors.get("pos_embed")
    if not options or given is None or given.ndim != 4:
        return dict(tensors)
    timm = import_timm()
    with torch.device("meta"):
        own = timm.create_model(model, **options).pos_embed
    return {**tensors, "pos_embed": timm.layers.resample_abs_pos_embed_nhwc(given, own.shape[1:3])}


def _features(net: Any, x: Tensor) -> Tensor:
    features: Tensor = net.forward_head(net.forward_features(x), pre_logits=True)
    return features


def stage_parameters(net: Any) -> dict[str, list[str]]:
    """The names of a timm model's parameters, by stage.

    Stages are the groups that timm itself decays learning rates by, as coarse as the model has them. A model that does
    not say gets its children in order, with lists of blocks split. A group of norm layers alone belongs to the group
    before it.
    """
    try:
        groups = list(import_timm().models.group_parameters(net, net.group_matcher(coarse=True)).values())
    except (AttributeError, AssertionError):
        groups = _children(net)
    stages: list[list[str]] = []
    for names in groups:
        if stages and all(net.get_parameter(name).ndim <= 1 for name in names):
            stages[-1] += names
        else:
            stages.append(list(names))
    return {f"stage{number}": names for number, names in enumerate(stages)}


def _children(net: nn.Module) -> list[list[str]]:
    groups: dict[str, list[str]] = {"": []}
    for name, _ in net.named_parameters():
        first, _, rest = name.partition(".")
        split = isinstance(getattr(net, first), nn.Sequential | nn.ModuleList)
        key = f"{first}.{rest.partition('.')[0]}" if split else first if rest else ""
        groups.setdefault(key, []).append(name)
    loose, first_child, *others = groups.values()
    return [loose + first_child, *others]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
