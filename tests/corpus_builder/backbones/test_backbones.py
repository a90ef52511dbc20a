"""Every registered backbone is what its spec says; the registry drives the tests."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from corpus_builder.backbones import backbone_names, backbone_spec
from corpus_builder.backbones.describe import backbone_row, listing
from corpus_builder.backbones.weights import build
from metaquery.errors import InvalidData, InvalidInput, UnknownName

SIZES = {2: (32, 32), 3: (16, 16, 16)}
PRETRAINED = [name for name in backbone_names() if backbone_spec(name).weights is not None]


def net(name):
    torch.manual_seed(0)
    return backbone_spec(name).build()


def batch(name, n=3):
    spec = backbone_spec(name)
    return torch.randn(n, spec.in_channels, *SIZES[spec.n_dims], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", backbone_names())
def test_a_backbone_is_what_its_spec_says(name):
    spec, backbone = backbone_spec(name), net(name)
    assert sum(p.numel() for p in backbone.parameters()) == spec.parameters
    assert backbone.feature_dim == spec.feature_dim
    features = backbone(batch(name))
    assert features.shape == (3, spec.feature_dim)
    features.sum().backward()
    assert all(p.grad is not None for p in backbone.parameters())
    architecture, _, weights = name.partition(".")
    assert architecture
    assert (weights == "scratch") == (spec.weights is None)


@pytest.mark.parametrize("name", backbone_names())
def test_freezing_fixes_the_first_stages_and_nothing_else(name):
    n_stages = len(net(name).stages)
    for n_frozen in range(n_stages + 1):
        backbone = net(name)
        backbone.freeze(n_frozen / n_stages)
        before = {key: value.clone() for key, value in backbone.state_dict().items()}
        backbone.train()
        x = batch(name).requires_grad_()
        features = backbone(x)
        assert features.requires_grad == (n_frozen < n_stages)
        if n_frozen < n_stages:
            features.square().mean().backward()
            with torch.no_grad():
                for p in backbone.parameters():
                    if p.grad is not None:
                        p.sub_(0.1 * p.grad)
        after = backbone.state_dict()
        for number, stage in enumerate(backbone.stages):
            keys = [key for key in before if key.startswith(f"stages.{stage}.")]
            changed = [key for key in keys if not torch.equal(before[key], after[key])]
            if number < n_frozen:
                assert not changed, f"stage {stage} is frozen but {changed} changed"
            else:
                assert changed, f"stage {stage} is free but nothing changed"


@pytest.mark.parametrize("name", backbone_names())
def test_flops_are_counted_at_the_input_shape(name):
    # On the meta device size costs nothing. Twice the side is four or eight times the pixels, at a side so large that
    # what the borders of an unpadded convolution add or take away does not show.
    n_dims = backbone_spec(name).n_dims
    small, large = (backbone_row(name, (side,) * n_dims) for side in (2048, 4096))
    assert small["input_shape"] == [backbone_spec(name).in_channels, *(2048,) * n_dims]
    assert large["flops"] / small["flops"] == pytest.approx(2**n_dims, rel=0.01)


def test_flops_of_a_net_small_enough_to_count_by_hand():
    # Three 3 x 3 convolutions of 1-8-16-32 channels at 16, 8 and 4 pixels a side, two operations a multiply-add.
    expected = 2 * 9 * (1 * 8 * 16**2 + 8 * 16 * 8**2 + 16 * 32 * 4**2)
    assert backbone_row("tiny_2d.scratch", (16, 16))["flops"] == expected


@pytest.mark.parametrize("name", PRETRAINED)
def test_real_weights_give_the_published_features(name, weights_root):
    spec = backbone_spec(name)
    reference = np.load(weights_root / "reference_features.npz")
    backbone = build(spec, weights_root).eval()
    with torch.no_grad():
        features = backbone(torch.from_numpy(reference[f"input_{spec.n_dims}d"])).numpy()
    expected = reference[spec.weights.file.split("/")[0]]
    assert np.abs(features - expected).max() <= 1e-3 * np.abs(expected).max()


def test_an_unknown_backbone_is_refused_with_the_closest_names():
    with pytest.raises(UnknownName, match=r"resnet18\.scratch"):
        backbone_spec("resnet18.scrach")


class TestDamagedWeights:
    """A file that is not the published one never gets into a model."""

    NAME = "shufflenetv2_x0_5.imagenet"

    def spec_for(self, path: Path):
        import hashlib

        spec = backbone_spec(self.NAME)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return dataclasses.replace(spec, weights=dataclasses.replace(spec.weights, file=path.name, sha256=sha256))

    def test_no_root(self):
        with pytest.raises(InvalidInput, match="MEDCURVES_WEIGHTS"):
            build(backbone_spec(self.NAME), None)

    def test_missing_file(self, tmp_path):
        with pytest.raises(InvalidInput, match=r"not found: expected .*safetensors"):
            build(backbone_spec(self.NAME), tmp_path)

    def test_another_file_under_its_name(self, tmp_path):
        path = tmp_path / backbone_spec(self.NAME).weights.file
        path.parent.mkdir()
        path.write_bytes(b"not the published file")
        with pytest.raises(InvalidData, match="SHA-256 differs"):
            build(backbone_spec(self.NAME), tmp_path)

    def test_a_pickle(self, tmp_path):
        path = tmp_path / "weights.safetensors"
        path.write_bytes(pickle.dumps({"first_conv.0.weight": [1.0]}))
        with pytest.raises(InvalidData, match="cannot be read as safetensors"):
            build(self.spec_for(path), tmp_path)

    def test_missing_and_unknown_keys(self, tmp_path):
        state = backbone_spec(self.NAME).build().state_dict()
        tensors = {key.removeprefix("stages.").replace("stem.0.", "first_conv."): t for key, t in state.items()}
        tensors["stage9.weight"] = tensors.pop("stage2.0.branch_main.0.weight")
        path = tmp_path / "weights.safetensors"
        save_file(tensors, path)
        with pytest.raises(
            InvalidData, match=r"missing \['stages.stage2.0.branch_main.0.weight'\].*unknown \['stages.stage9"
        ):
            build(self.spec_for(path), tmp_path)


def test_the_listing_says_which_weights_are_present(tmp_path):
    rows = {row["backbone"]: row["weights present"] for row in listing(tmp_path)}
    assert list(rows) == backbone_names()
    assert rows["resnet18.scratch"] == "-"
    assert {rows[name] for name in PRETRAINED} == {"no"}
