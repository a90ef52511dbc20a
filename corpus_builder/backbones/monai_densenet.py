"""DenseNets of MONAI (Huang et al., CVPR 2017), 2-D and 3-D, from random weights."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from corpus_builder.backbones.spec import BackboneSpec, Normalization
from corpus_builder.backbones.stages import StagedBackbone


class _Halve(nn.Module):
    """Average pooling by two; an odd last row is averaged alone instead of left out, so no map becomes empty."""

    def forward(self, x: Tensor) -> Tensor:
        pool = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
        return pool(x, [min(2, size) for size in x.shape[2:]], stride=2, ceil_mode=True)


def stages(net: Any) -> dict[str, nn.Module]:
    """The stem and the dense blocks of a MONAI DenseNet, each block with the transition that follows it."""
    layers = dict(net.features.named_children())
    stem = [layers.pop(f"{kind}0") for kind in ("conv", "norm", "relu", "pool")]
    found: dict[str, nn.Module] = {"stem": nn.Sequential(*stem)}
    blocks = [name for name in layers if name.startswith("denseblock")]
    for number, name in enumerate(blocks, start=1):
        if number < len(blocks):
            after = layers[f"transition{number}"]
            after.pool = _Halve()
        else:
            after = nn.Sequential(layers["norm5"], net.class_layers.relu)
        found[f"block{number}"] = nn.Sequential(layers[name], after)
    return found


def _build(n_dims: int) -> StagedBackbone:
    from monai.networks.nets.densenet import DenseNet121

    return StagedBackbone(stages(DenseNet121(spatial_dims=n_dims, in_channels=1, out_channels=1)), feature_dim=1024)


def _spec(name: str, n_dims: int, parameters: int) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        family="densenet",
        n_dims=n_dims,
        in_channels=1,
        feature_dim=1024,
        parameters=parameters,
        normalization=Normalization("zscore"),
        build=partial(_build, n_dims),
        licence="Apache-2.0",
        source="monai.networks.nets.densenet (Huang et al., Densely Connected Convolutional Networks, CVPR 2017)",
    )


SPECS = (_spec("densenet121.scratch", 2, 6_947_584), _spec("densenet121_3d.scratch", 3, 11_242_624))
