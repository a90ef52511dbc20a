"""An inflated net sees a volume of equal slices as its 2-D net sees the slice."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from corpus_builder.backbones import backbone_names, backbone_spec
from corpus_builder.backbones.inflation import inflate, inflate_state
from corpus_builder.backbones.layers import SameConv2d
from corpus_builder.backbones.stages import StagedBackbone
from corpus_builder.backbones.weights import build

INFLATED = [
    name for name in backbone_names(3) if "inflated" in getattr(backbone_spec(name).weights, "pretrained_on", "")
]
MONAI_2D = ["resnet18.scratch", "seresnet50.scratch", "densenet121.scratch", "efficientnet_b0.scratch"]


def assert_same_on_equal_slices(flat, volumetric, channels, depths=(1, 2, 5)):
    flat.eval()
    volumetric.eval()
    x = torch.randn(2, channels, 40, 33, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = flat(x)
        for depth in depths:
            features = volumetric(x[:, :, None].expand(-1, -1, depth, -1, -1))
            assert (features - expected).abs().max() <= 1e-4 * expected.abs().max(), depth


def draw(spec):
    """The net with the statistics of its BatchNorms drawn too, so that none of them does nothing."""
    torch.manual_seed(0)
    backbone = spec.build()
    for name, buffer in backbone.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand_like(buffer) + 0.5 if "var" in name else torch.randn_like(buffer) * 0.1)
    return backbone


def test_all_convolutional_nets_with_published_weights_are_inflated():
    flat = {name for name in backbone_names(2) if backbone_spec(name).weights is not None}
    assert {name.replace("_3d.", ".") for name in INFLATED} == flat


@pytest.mark.parametrize("name", INFLATED)
def test_equal_slices_give_the_features_of_one(name):
    flat = backbone_spec(name.replace("_3d.", "."))
    backbone = draw(flat)
    # depths at which every layer has something to see: squeezenet pads nothing
    depths = (1, 2, 5) if flat.min_size == 1 else (flat.min_size, flat.min_size + 2)
    assert_same_on_equal_slices(backbone, inflate(backbone), flat.in_channels, depths)


@pytest.mark.parametrize("name", MONAI_2D)
def test_monai_nets_can_be_inflated_too(name):
    backbone = draw(backbone_spec(name))
    assert_same_on_equal_slices(backbone, inflate(backbone), 1, (4,))


@pytest.mark.parametrize("name", INFLATED)
def test_real_weights_are_inflated_as_they_are_loaded(name, weights_root):
    flat = backbone_spec(name.replace("_3d.", "."))
    spec = backbone_spec(name)
    assert spec.weights.sha256 == flat.weights.sha256
    assert_same_on_equal_slices(build(flat, weights_root), build(spec, weights_root), flat.in_channels, (32,))


def test_slices_that_differ_are_averaged_by_the_kernel():
    backbone = StagedBackbone({"conv": nn.Conv2d(1, 1, 3, bias=False)}, feature_dim=1)
    nn.init.ones_(backbone.stages["conv"].weight)
    volume = torch.tensor([1.0, 2.0, 6.0]).view(1, 1, 3, 1, 1).expand(-1, -1, -1, 3, 3)
    with torch.no_grad():
        assert inflate(backbone)(volume).item() == pytest.approx(9 * (1 + 2 + 6) / 3)


def test_the_ends_of_a_volume_are_continued_by_their_slices():
    backbone = StagedBackbone({"conv": SameConv2d(1, 1, 3, bias=False)}, feature_dim=1)
    nn.init.ones_(backbone.stages["conv"].weight)
    volume = torch.tensor([1.0, 4.0]).view(1, 1, 2, 1, 1)  # one pixel a slice: zeros around it in the plane
    with torch.no_grad():
        found = inflate(backbone).stages["conv"](volume).flatten().tolist()
    assert found == pytest.approx([(1 + 1 + 4) / 3, (1 + 4 + 4) / 3])


def test_what_has_no_3d_form_is_refused():
    for layer in (nn.ConvTranspose2d(1, 1, 2), nn.AvgPool2d(3, padding=1), nn.Conv2d(1, 1, (1, 3))):
        with pytest.raises(ValueError, match="cannot inflate"):
            inflate(StagedBackbone({"only": layer}, feature_dim=1))


def test_inflating_leaves_the_net_and_its_other_tensors_alone():
    backbone = draw(backbone_spec("shufflenetv2_x0_5.imagenet"))
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    inflated = inflate_state(backbone.state_dict())
    inflate(backbone)
    assert all(torch.equal(tensor, before[key]) for key, tensor in backbone.state_dict().items())
    for key, tensor in inflated.items():
        assert tensor.sum(2).allclose(before[key]) if tensor.ndim == 5 else torch.equal(tensor, before[key])
