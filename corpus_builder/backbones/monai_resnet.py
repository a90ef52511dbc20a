"""ResNets of MONAI, 2-D and 3-D, from random weights, with a stride-2 stem."""

from __future__ import annotations

from torch import nn

from corpus_builder.backbones.spec import BackboneSpec, Normalization
from corpus_builder.backbones.stages import StagedBackbone


def _build(n_dims: int, depth: int) -> StagedBackbone:
    from monai.networks.nets import resnet  # seconds to import: only where such a net is built

    factory = {10: resnet.resnet10, 18: resnet.resnet18}[depth]
    net = factory(spatial_dims=n_dims, n_input_channels=1, conv1_t_stride=2, feed_forward=False, shortcut_type="B")
    stages: dict[str, nn.Module] = {"stem": nn.Sequential(net.conv1, net.bn1, net.act, net.maxpool)}
    stages |= {f"layer{k}": getattr(net, f"layer{k}") for k in range(1, 5)}
    return StagedBackbone(stages, feature_dim=512)


def _spec(name: str, n_dims: int, depth: int, parameters: int) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        family="resnet",
        n_dims=n_dims,
        in_channels=1,
        feature_dim=512,
        parameters=parameters,
        normalization=Normalization("zscore"),
        build=lambda: _build(n_dims, depth),
        licence="Apache-2.0",
        source="monai.networks.nets.resnet (He et al., CVPR 2016; Hara et al., CVPR 2018)",
    )


SPECS = (
    _spec("resnet18.scratch", 2, 18, 11_171_136),
    _spec("resnet10_3d.scratch", 3, 10, 14_356_416),
)
